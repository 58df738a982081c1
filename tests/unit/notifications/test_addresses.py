import pytest

from tokka.errors import UsageError
from tokka.notifications import addresses
from tokka.params import parse_params
from tokka.sections_serving import Notifications, Receiver
from tokka.settings import Settings

TEAM = Receiver(name="team")


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings.from_environment({"TOKKA_ROOT": str(tmp_path), "TOKKA_HOME": str(tmp_path)})


def written(settings: Settings, text: str, mode: int = 0o600) -> Settings:
    path = settings.home / "notify.urls"
    path.write_text(text)
    path.chmod(mode)
    return settings


def test_addresses_are_read_from_a_file_or_the_variable_which_goes_before_it(settings):
    written(settings, "# who\nteam=mailto://me:secret@host/#inbox # to us\n\nbus=https://there/in\n")
    found = addresses.read(settings, {})
    assert {name: one.reveal for name, one in found.items()} == {
        "team": "mailto://me:secret@host/#inbox", "bus": "https://there/in",
    }  # fmt: skip
    assert "secret" not in repr(found)
    assert set(addresses.read(settings, {"TOKKA_NOTIFY_URLS": "a=json://there b=json://here"})) == {"a", "b"}
    assert addresses.read(settings.model_copy(update={"home": settings.home / "new"}), {}) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [("team mailto://me:secret@host", "line 1 is no name=URL"), ("\n\nteam=secret", "line 3 is no name=URL")],
)
def test_a_wrong_line_is_named_and_not_shown(settings, text, words):
    with pytest.raises(UsageError, match=words) as caught:
        addresses.read(written(settings, text), {})
    assert "secret" not in str(caught.value) + caught.value.hint


def test_a_file_that_others_can_read_is_refused(settings):
    with pytest.raises(UsageError, match=r"others than its owner may use it \(mode 644\)") as caught:
        addresses.read(written(settings, "team=mailto://me:secret@host", 0o644), {})
    assert caught.value.hint.startswith("chmod 600")
    with pytest.raises(UsageError, match="which TOKKA_NOTIFY_FILE names, does not exist"):
        addresses.read(settings, {"TOKKA_NOTIFY_FILE": "elsewhere"})


def test_names_and_addresses_belong_together(settings, monkeypatch):
    monkeypatch.delenv("TOKKA_NOTIFY_URLS", raising=False)
    told = Notifications(receivers=(TEAM,))
    assert addresses.check(Notifications(), settings) == "nobody is told"
    with pytest.raises(UsageError, match="names 'team', and no address has this name"):
        addresses.check(told, settings)
    in_pod = settings.model_copy(update={"in_pod": True})
    assert addresses.check(told, in_pod) == "1 receivers, told by whoever runs `tokka notify --loop`"
    monkeypatch.setenv("TOKKA_NOTIFY_URLS", "team=json://there/secret")
    assert addresses.check(told, settings) == "team (json)"
    monkeypatch.setenv("TOKKA_NOTIFY_URLS", "team=json://there other=json://there")
    with pytest.raises(UsageError, match="an address for 'other'"):
        addresses.check(told, settings)
    monkeypatch.setenv("TOKKA_NOTIFY_URLS", "team=mailto://me:secret@there")
    with pytest.raises(UsageError, match="no http:// or https://"):
        addresses.check(Notifications(receivers=(TEAM.model_copy(update={"protocol": "cloudevents"}),)), settings)


@pytest.mark.parametrize(
    ("receivers", "words"),
    [
        ([{"name": "team", "event": []}], "did you mean 'events'"),
        ([{"name": "team", "url": "json://there"}], "unknown key 'notifications.receivers.0.url'"),
        ([{"name": "Team A"}], "receivers.0.name = 'Team A'"),
        ([{"name": "a", "events": ["promotion"]}], "events.0 = 'promotion'"),
        ([{"name": "a"}, {"name": "a"}], "receivers names 'a' more than once"),
    ],
)
def test_params_are_refused_in_one_line(receivers, words):
    with pytest.raises(UsageError) as caught:
        parse_params({"notifications": {"receivers": receivers}})
    assert words in caught.value.message
