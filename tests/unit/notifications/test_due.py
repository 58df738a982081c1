"""Somebody is to be told, and is reached only at an address that is known."""

from tokka.notifications import Event, emit
from tokka.notifications.due import Due
from tokka.params import parse_params
from tokka.settings import Settings


def test_it_knows_that_somebody_is_to_be_told_and_says_of_whom_it_has_no_address(tmp_path, monkeypatch):
    monkeypatch.delenv("TOKKA_NOTIFY_URLS", raising=False)
    settings = Settings.from_environment({"TOKKA_HOME": str(tmp_path)})
    due = Due(settings, parse_params({"notifications": {"receivers": [{"name": "team"}]}}).notifications)
    emit(Event("promoted", "helpdesk", "r/1", "Version 1 is the champion."), settings.record_url)
    assert not due.look()
    assert due.problem == "notifications wait: no address is known of team"
    monkeypatch.setenv("TOKKA_NOTIFY_URLS", "team=json://there")
    assert due.look()
    assert due.problem == ""
