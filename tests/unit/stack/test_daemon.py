"""What the daemon does where a disk is full."""

from types import SimpleNamespace

from tokka.stack import state_file
from tokka.stack.daemon import Daemon
from tokka.stack.state_file import StackInfo


def test_a_state_that_cannot_be_written_ends_nothing(monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state_file, "publish", full)
    info, told = StackInfo(pid=1, started=1.0, updated=1.0, name="helpdesk", endpoint=""), []
    daemon = object.__new__(Daemon)
    daemon._settings, daemon._state, daemon._last = None, None, {}
    daemon._data = SimpleNamespace(tell=lambda *facts: told.append(facts))
    monkeypatch.setattr(daemon, "_info", lambda: info, raising=False)
    monkeypatch.setattr(daemon, "_details", dict, raising=False)
    daemon._publish()
    assert told == [(info, None)]
    assert "No space left" in caplog.text
