"""What the daemon does where a disk is full."""

from types import SimpleNamespace

from tokka.stack import stack
from tokka.stack.daemon import Daemon


def test_a_state_that_cannot_be_written_ends_nothing(monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stack, "publish", full)
    told = []
    daemon = object.__new__(Daemon)
    daemon._settings, daemon._state, daemon._last = None, None, {}
    daemon._gateway = SimpleNamespace(alive=lambda: True)
    daemon._feed = SimpleNamespace(tell=lambda *facts: told.append(facts))
    monkeypatch.setattr(daemon, "_info", lambda serving: "info", raising=False)
    daemon._say()
    assert told == [("info", None)]
    assert "No space left" in caplog.text
