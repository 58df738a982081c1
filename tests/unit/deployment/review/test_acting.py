"""From a tag in a real MLflow server to the start of a rollout: by webhook, and without one by looking."""

import contextlib
import os
import shutil
import subprocess
import sys
import time

import httpx
import pytest
from cryptography.fernet import Fernet

from tests.fixtures.browser import browser, chromium
from tests.fixtures.ports import free_port
from tests.fixtures.waiting import LOCAL, PATIENCE_S, wait_for
from tests.unit.deployment.review.test_admission import BUNDLE
from tests.unit.deployment.review.test_versions import Case
from tests.unit.registry.conftest import make_settings
from tokka.deployment.record.state import Revision, State
from tokka.deployment.review import webhook
from tokka.deployment.review.acting import Reviews, is_due, is_outdated
from tokka.deployment.review.admission import Standing
from tokka.errors import TokkaError
from tokka.registry.mlflow_client import Registry
from tokka.stack.services import _page_environment

APPROVED = Standing("approved", "by ben")
TWO = Revision(version="2", digest="d" * 64)
IDLE = State(endpoint="desk", champion=Revision(version="1", digest="c" * 64))


@pytest.mark.parametrize(
    ("version", "standing", "state", "ended", "due"),
    [
        ("2", APPROVED, IDLE, "", True),
        ("2", APPROVED, State(endpoint="desk"), "", True),
        ("2", Standing("waiting", "nobody"), IDLE, "", False),
        ("2", Standing("refused", "ben"), IDLE, "", False),
        ("1", APPROVED, IDLE, "", False),
        ("2", APPROVED, IDLE, "roll_back", False),
        ("2", APPROVED, IDLE, "promote", False),
        ("2", APPROVED, IDLE, "wait", True),
        ("3", APPROVED, IDLE.model_copy(update={"challenger": TWO, "phase": "shadow"}), "", False),
    ],
)  # fmt: skip
def test_what_is_due(version, standing, state, ended, due):
    assert is_due(version, standing, state, [{"action": ended}] if ended else []) is due
    assert BUNDLE.was_admitted


@pytest.mark.parametrize(
    ("standing", "state", "version", "outdated"),
    [
        (Standing("waiting", "nobody"), IDLE, "2", True),
        (Standing("waiting", "nobody"), State(endpoint="desk"), "2", False),
        (Standing("waiting", "nobody"), IDLE, "1", False),
        (Standing("refused", "ben"), IDLE, "2", False),
        (APPROVED, IDLE, "2", False),
        (Standing("waiting", "nobody"), IDLE.model_copy(update={"challenger": TWO, "phase": "shadow"}), "3", False),
    ],
)  # fmt: skip
def test_what_is_evaluated_again(standing, state, version, outdated):
    other = BUNDLE.model_copy(update={"champion_digest": "0" * 64})
    assert is_outdated(version, standing, state, other) is outdated
    assert not is_outdated(version, standing, state, BUNDLE)


def alone(folder):
    """Settings whose receiver has a port that nobody else's has."""
    return make_settings(folder / "home", TOKKA_PORT=str(free_port()))


def reviews_of(case, started, again):
    registry = Registry(case.settings, case.name)
    return Reviews(case.record, registry, case.params(), case.settings, started.append, again.append)


def test_what_waits_is_evaluated_again_once_for_each_champion(tmp_path):
    case, started, again = (
        Case(make_settings(tmp_path / "home", TOKKA_PORT=str(free_port())), tmp_path, "moved"),
        [],
        [],
    )
    with contextlib.closing(reviews_of(case, started, again)) as reviews:
        reviews.look(late=True)
        assert again == []
        state = case.record.read(case.name)
        state = case.record.compare_and_set(state, champion=Revision(version="0", digest="c" * 64))
        for _ in range(2):
            reviews.look(late=True)
        assert (started, again) == ([], ["1"])
        case.record.compare_and_set(state, champion=Revision(version="0", digest="e" * 64))
        reviews.look(late=True)
        assert again == ["1", "1"]


def test_an_older_version_that_is_approved_while_a_newer_one_waits_is_rolled_out(tmp_path):
    case, started, again = Case(alone(tmp_path), tmp_path, "two"), [], []
    case.register("k2")
    with contextlib.closing(reviews_of(case, started, again)) as reviews:
        case.decide("approved", "1")
        reviews.look(late=True)
        reviews.look(late=True)
    assert started == [Registry(case.settings, case.name).version("1").run_id]
    assert again == []


@pytest.fixture
def moved(tmp_path, monkeypatch):
    """The next home with what is in the one before, but without its key: MLflow reads a key once in each process."""
    from mlflow.store.model_registry.dbmodels.models import SqlWebhook

    mlflows = SqlWebhook.__table__.c.secret.type
    kept, homes = mlflows.cipher, [tmp_path / "0"]

    def move():
        home = homes[-1].with_name(str(len(homes)))
        if homes[-1].exists():
            shutil.copytree(homes[-1], home, ignore=shutil.ignore_patterns("keys"))
        homes.append(home)
        settings = make_settings(home)
        for name, value in webhook.environment(settings).items():
            monkeypatch.setenv(name, value)
        mlflows.cipher = Fernet(webhook.master_key(settings))
        registry = Registry(settings, "desk")
        registry.prepare()
        return registry, settings

    yield move
    mlflows.cipher = kept


def test_the_entry_of_a_lost_key_is_made_anew_and_what_is_foreign_is_told(moved):
    assert webhook.keep(*moved())
    registry, settings = moved()
    assert webhook.keep(registry, settings)
    assert not webhook.keep(registry, settings)
    registry.put_webhook("somebody-elses", webhook.url(settings), webhook.EVENTS, "s" * 32)
    with pytest.raises(TokkaError, match=r"another key than keys/mlflow-webhook\.key") as raised:
        webhook.keep(*moved())
    assert "backup" in raised.value.hint


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def served(request, tmp_path_factory):
    """A home with MLflow behind MLflow's own server: on SQLite as the stack runs it, on PostgreSQL as one elsewhere."""
    from mlflow.store.model_registry.dbmodels.models import SqlWebhook

    mlflows = SqlWebhook.__table__.c.secret.type
    home, port = tmp_path_factory.mktemp("served"), free_port()
    address, variables = f"http://127.0.0.1:{port + 10}", {"TOKKA_PORT": str(port)}
    own = _page_environment(make_settings(home, **variables))
    if request.param == "postgresql":
        hooks = f"http://127.0.0.1:{port + webhook.PORT_OFFSET}{webhook.PATH}"
        variables |= {"MLFLOW_TRACKING_URI": address, "TOKKA_REVIEW_URL": hooks}
        own |= {"_MLFLOW_SERVER_FILE_STORE": request.getfixturevalue("postgres").database(),
                "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/"}  # fmt: skip
    settings = make_settings(home, **variables)
    os.environ |= webhook.environment(settings)
    # MLflow reads its key when it is imported, which a test before may have done without one.
    kept, mlflows.cipher = mlflows.cipher, Fernet(webhook.master_key(settings))
    if settings.has_own_page:
        Registry(settings, "desk").prepare()
    command = [sys.executable, "-m", "tokka.processes.web_server", "127.0.0.1", str(port + 10),
               "mlflow.server.fastapi_app:app"]  # fmt: skip
    with (home / "mlflow.log").open("wb") as log:
        child = subprocess.Popen(
            command, env={**os.environ, **settings.environment(), **own}, stdout=log, stderr=log, cwd=home
        )
    try:
        wait_for(lambda: _answers(address), what=lambda: (home / "mlflow.log").read_text()[-2000:])
        Registry(settings, "desk").prepare()
        yield settings, address
    finally:
        child.terminate()
        child.wait(PATIENCE_S)
        mlflows.cipher = kept
        for name in webhook.environment(settings):
            del os.environ[name]


def _answers(address):
    try:
        return httpx.get(f"{address}/health", **LOCAL).status_code == 200
    except httpx.HTTPError:
        return False


def set_tag(address, model, version, value):
    """As MLflow's page does it."""
    said = {"name": model, "version": version, "key": "tokka.review", "value": value}
    found = httpx.post(f"{address}/ajax-api/2.0/mlflow/model-versions/set-tag", json=said, **LOCAL)
    assert found.status_code == 200, found.text


def watch(case, started, **review):
    """Reviews that look only when they are told to by MLflow's webhook."""
    found = Reviews(
        case.record, Registry(case.settings, case.name), case.params(**review), case.settings, started.append
    )
    found._sources = ()
    found.look(late=True)
    return found


def test_a_tag_set_in_mlflow_starts_the_rollout_in_seconds_and_once(served, tmp_path, capsys):
    settings, address = served
    case, started = Case(settings, tmp_path, "hooked"), []
    reviews = watch(case, started, trust="open")
    try:
        assert started == []
        assert not webhook.keep(Registry(settings, case.name), settings), "the entry stays as it is"
        time_to_see = webhook.CACHE_S
        set_tag(address, case.name, "1", "approved")
        began = time.monotonic()
        wait_for(lambda: reviews.look() or started)
        seconds = time.monotonic() - began
        assert started == [Registry(settings, case.name).version("1").run_id]
        set_tag(address, case.name, "1", "approved")
        reviews.wait(2.0)
        reviews.look(late=True)
        assert len(started) == 1
        assert seconds < 5 + time_to_see
        with capsys.disabled():
            print(f"\nfrom the tag to the start of the rollout: {seconds:.2f} s")
    finally:
        reviews.close()


def test_a_tag_is_no_approval_where_reviews_are_signed(served, tmp_path):
    settings, address = served
    case, started = Case(settings, tmp_path, "signed"), []
    reviews = watch(case, started)
    try:
        set_tag(address, case.name, "1", "approved")
        reviews.look(late=True)
        assert started == []
        case.decide("approved")
        reviews.look(late=True)
        assert len(started) == 1
    finally:
        reviews.close()


def test_an_entry_that_was_changed_or_deleted_is_mended(served):
    settings, _ = served
    registry = Registry(settings, "desk")
    webhook.keep(registry, settings)
    client = registry._client
    (entry,) = [one for one in client.list_webhooks() if one.name == webhook.NAME]
    client.update_webhook(entry.webhook_id, status="DISABLED")
    assert webhook.keep(registry, settings)
    (entry,) = [one for one in client.list_webhooks() if one.name == webhook.NAME]
    client.delete_webhook(entry.webhook_id)
    assert webhook.keep(registry, settings)
    assert not webhook.keep(registry, settings)


ROW = "[...document.querySelectorAll('tr')].find(row => row.cells?.[0]?.innerText.trim() === 'tokka.review')"


@pytest.mark.skipif(chromium() is None, reason="chromium is not installed")
def test_a_click_in_mlflows_page_starts_the_rollout(served, tmp_path, capsys):
    settings, address = served
    case, started = Case(settings, tmp_path, "clicked"), []
    reviews = watch(case, started, trust="open")
    try:
        with browser() as page:
            page.open(f"{address}/#/models/{case.name}/versions/1")
            page.wait("document.body.innerText.includes('Measured on the held-out test rows')")
            page.click(f"({ROW})?.querySelector('button')")
            page.wait(f"!!({ROW})?.querySelector('input')")
            page.value(f"({ROW}).querySelector('input').focus(), ({ROW}).querySelector('input').select()")
            page.type("approved")
            page.click(f"({ROW}).querySelector('[data-testid=editable-table-button-save]')")
            began = time.monotonic()
            wait_for(lambda: reviews.look() or started)
            seconds = time.monotonic() - began
        assert started == [Registry(settings, case.name).version("1").run_id]
        with capsys.disabled():
            print(f"\nfrom the click to the start of the rollout: {seconds:.2f} s")
    finally:
        reviews.close()
