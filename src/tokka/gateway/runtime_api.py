"""HAProxy's runtime API: commands over its Unix socket, and its state as plain data."""

import contextlib
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from tokka import failpoints
from tokka.errors import TokkaError

# Bit of srv_admin_state and value of srv_op_state, from HAProxy's server-t.h.
_FORCED_MAINTENANCE = 1
_RUNNING = 2
_TIMEOUT_SECONDS = 2.0
# HAProxy's input buffer bounds one line.
_COMMANDS_PER_LINE = 20
_REFUSALS = ("No such", "Unknown", "Invalid", "Require", "not found", "Permission denied")


@dataclass(frozen=True)
class Slot:
    """One server slot; `enabled` is what was asked of it, `running` the result of its health checks."""

    backend: str
    name: str
    port: int
    enabled: bool
    running: bool


class RuntimeApi:
    """One connection per batch of commands; what asks raises TokkaError when HAProxy does not answer in 2 seconds."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self.socket = folder, folder / name

    def run(self, commands: list[str]) -> None:
        """Run commands that change something, in order; raises TokkaError for an unknown server or map."""
        for start in range(0, len(commands), _COMMANDS_PER_LINE):
            with failpoints.at("map"):
                answer = self.ask(";".join(commands[start : start + _COMMANDS_PER_LINE]))
            if any(refusal in answer for refusal in _REFUSALS):
                raise TokkaError(f"the gateway refused: {' '.join(answer.split())[:200]}", "restart it: tokka down, up")

    def map(self, name: str) -> dict[str, str]:
        """The entries of a map; raises TokkaError when there is none of that name."""
        rows = [line.split(" ", 2) for line in self.ask(f"show map {name}").splitlines() if line.startswith("0x")]
        if not rows:
            raise TokkaError(f"the gateway has no map {name}", "restart it: tokka down, tokka up")
        return {row[1]: row[2] for row in rows}

    def slots(self) -> list[Slot]:
        """Every server slot."""
        # A line with the version of the format, one with the names of the columns, then the servers.
        _, header, *lines = [line for line in self.ask("show servers state").splitlines() if line] or ["", ""]
        names = header.removeprefix("# ").split()
        return [_slot(dict(zip(names, line.split(), strict=False))) for line in lines]

    def answers(self) -> bool:
        """Whether HAProxy does."""
        with contextlib.suppress(TokkaError):
            self.slots()
            return True
        return False

    def ask(self, command: str) -> str:
        """Send one line and return the whole answer."""
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(_TIMEOUT_SECONDS)
                connection.connect(self._address(folder))
                connection.sendall(command.encode() + b"\n")
                parts = iter(lambda: connection.recv(65_536), b"")
                return b"".join(parts).decode(errors="replace")
        except OSError as error:
            raise TokkaError(f"the gateway does not answer: {error}", "see tokka status") from None
        finally:
            os.close(folder)

    def _address(self, folder: int) -> str:
        """A short path of the socket: one may have 107 bytes at most, a home folder's may be longer."""
        return f"/proc/self/fd/{folder}/{self.socket.name}" if sys.platform == "linux" else str(self.socket)


def _slot(row: dict[str, str]) -> Slot:
    enabled = not int(row["srv_admin_state"]) & _FORCED_MAINTENANCE
    return Slot(row["be_name"], row["srv_name"], int(row["srv_port"]), enabled, int(row["srv_op_state"]) == _RUNNING)
