"""The session: a mark and a temporary folder of its own, and a guard over what its tests leave behind.

Each worker looks after each test, and fails the last test of a module when something is still there, or of a folder
whose modules share a stack; the controller looks at the end, and after an interruption. TOKKA_TEST_KEEP=1 keeps the
temporary folders to be looked at.
"""

import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Generator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, settings

from tests.fixtures.leftovers import VARIABLE, Guard, stop_multiprocessing
from tests.fixtures.objects import bucket, storage
from tests.fixtures.postgres import postgres, record_url

__all__ = ["bucket", "postgres", "record_url", "storage"]

# What is about to end by itself may do so.
GRACE_S = 30.0
# Read when torch is loaded: on a busy machine, threads that wait by spinning take the time of those that work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


# A slow machine makes no example wrong.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.option.collectonly:
        return
    worker = getattr(config, "workerinput", {}).get("workerid", "")
    base = config._tmp_path_factory.getbasetemp()
    folder = base / "t"
    folder.mkdir()
    mark = f"{os.environ[VARIABLE]}{worker}." if worker else f"{uuid.uuid4().hex[:8]}."
    os.environ |= {VARIABLE: mark, "TMPDIR": str(folder)}
    tempfile.tempdir = None
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, Interrupt(is_worker=bool(worker)))
    os.register_at_fork(after_in_child=forget_interrupt)
    config.pluginmanager.register(Watch(config, Guard(mark, folder), base, is_worker=bool(worker)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadfile`, but for folders whose modules share a stack: such a folder goes to one worker."""
    from xdist.scheduler import LoadFileScheduling

    class LoadHomes(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            folder = Path(file).parent
            return str(folder) if (config.rootpath / folder / "__init__.py").exists() else file

    return LoadHomes(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that are slow as a whole first: at the end, one alone would keep the other workers waiting.

    A folder whose modules share a stack stays together.
    """
    items.sort(key=lambda item: all(mark.name != "slow" for mark in home(item).own_markers))


def home(item: pytest.Item) -> pytest.Collector | None:
    """What is taken down together: a folder with an __init__.py, whose modules share a stack, or else a module."""
    return item.getparent(pytest.Package) or item.getparent(pytest.Module)


class Interrupt:
    """A signal ends this process as Ctrl-C does, with all that is torn down.

    A worker takes the first one only: the terminal, the controller and execnet all send one, and it is being torn down.
    """

    def __init__(self, *, is_worker: bool) -> None:
        self._is_worker, self._is_told = is_worker, False

    def __call__(self, number: int, frame: object) -> None:
        if not (self._is_worker and self._is_told):
            self._is_told = True
            raise KeyboardInterrupt


def forget_interrupt() -> None:
    """A fork ends by a signal as if nobody had asked for more.

    A handler in Python would not do: a signal that comes just before a blocking call waits until that call is over.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Watch:
    """Asks the guard at the right moments."""

    def __init__(self, config: pytest.Config, guard: Guard, base: Path, *, is_worker: bool) -> None:
        self.config, self.guard, self.base, self.is_worker = config, guard, base, is_worker
        self.left: list[str] = []

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, None, None]:
        try:
            yield
        finally:
            self.guard.look(item.nodeid)
            is_last = nextitem is None or home(nextitem) is not home(item)
            left = self.guard.clean(GRACE_S) if is_last else []
        if left:
            pytest.fail("\n".join(["left behind by this module or folder, and ended now:", *left]), pytrace=False)

    def pytest_keyboard_interrupt(self) -> None:
        """The controller's workers are told at once; xdist would let them begin to end after seconds, and kill them."""
        if not self.is_worker and self.config.pluginmanager.has_plugin("dsession"):
            for worker in psutil.Process().children():
                worker.send_signal(signal.SIGTERM)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        yield
        stop_multiprocessing()
        is_interrupted = session.exitstatus == pytest.ExitCode.INTERRUPTED
        left = self.guard.clean(0.0 if is_interrupted else GRACE_S)
        if self.is_worker:
            self.config.workeroutput["left"] = left
            return
        self.left += left
        if self.left and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object) -> None:
        self.left += getattr(node, "workeroutput", {}).get("left", [])

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.left:
            terminalreporter.section("left behind, and ended or deleted now")
            terminalreporter.write_line("\n".join(self.left))

    def pytest_unconfigure(self) -> None:
        if not self.is_worker and not os.environ.get("TOKKA_TEST_KEEP"):
            shutil.rmtree(self.base, ignore_errors=True)
            current = self.base.parent / "pytest-current"
            if current.is_symlink() and not current.exists():
                current.unlink()
