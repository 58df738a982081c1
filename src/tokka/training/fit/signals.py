"""Signals during training do what they do elsewhere: Ctrl-C is a KeyboardInterrupt, SIGTERM ends the process.

Lightning makes SIGTERM an orderly exit with code 0, which a pipeline would take for success, and ignores Ctrl-C
for the rest of the process. The last checkpoint is whole at any moment: nothing has to be tidied up.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import lightning.pytorch as pl


class RestoreSignalHandlers(pl.Callback):  # type: ignore[misc]  # Lightning ships no types that we read
    """Puts the process's own SIGTERM handler back once the trainer has installed its own."""

    def __init__(self) -> None:
        self._terminate = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The trainer registers its handlers just before this."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._terminate)


@contextmanager
def keyboard_interrupts() -> Iterator[None]:
    """Give Ctrl-C back to the caller as what it is."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)
