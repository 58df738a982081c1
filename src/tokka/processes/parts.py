"""The parts of a loop that must go on: what one of them raises is a problem to tell of, and no end of the others."""

import logging
from collections.abc import Callable
from typing import TypeVar

logger = logging.getLogger("tokka.processes")

T = TypeVar("T")


class Parts:
    """What each part raised when it was last tried; logged when it begins to."""

    def __init__(self) -> None:
        self._broken: dict[str, str] = {}

    @property
    def problems(self) -> list[str]:
        """One sentence for each part that does not work."""
        return list(self._broken.values())

    def attempt(self, part: str, work: Callable[[], T], otherwise: T) -> T:
        """What `work` returns; `otherwise` when it raises: a full disk, a server that is away, or our own mistake."""
        try:
            found = work()
        except Exception as error:
            if part not in self._broken:
                logger.exception("%s: %s", part, error)
            self._broken[part] = f"{part}: {error}"
            return otherwise
        self._broken.pop(part, None)
        return found
