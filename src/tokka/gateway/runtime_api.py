"""HAProxy's runtime API: commands over its Unix socket, and its state as plain data.

api = RuntimeApi(folder, "haproxy.sock")
api.run(["set map share.map share 500"])
"""

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


@dataclass(frozen=True)
class Slot:
    """One server slot; `enabled` is what was asked of it, `running` what its health checks say."""

    backend: str
    name: str
    port: int
    enabled: bool
    running: bool


class RuntimeApi:
    """One connection per batch of commands.

    Args:
        folder: holds the socket.
        name: the socket's file name.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name

    def run(self, commands: list[str]) -> None:
        """Run commands that change something, in order.

        Raises:
            TokkaError: HAProxy does not answer, or does not know a server or map.
        """
        # HAProxy's input buffer bounds one line.
        for start in range(0, len(commands), 20):
            with failpoints.at("map"):
                answer = self.ask(";".join(commands[start : start + 20]))
            for refusal in ("No such", "Unknown", "Invalid", "Require", "not found", "Permission denied"):
                if refusal in answer:
                    raise TokkaError(
                        f"the gateway refused: {' '.join(answer.split())[:200]}", "restart it: tokka down, up"
                    )

    def map(self, name: str) -> dict[str, str]:
        """The entries of a map.

        Raises:
            TokkaError: as `run`.
        """
        rows = [line.split(" ", 2) for line in self.ask(f"show map {name}").splitlines() if line.startswith("0x")]
        if not rows:
            raise TokkaError(f"the gateway has no map {name}", "restart it: tokka down, tokka up")
        return {row[1]: row[2] for row in rows}

    def slots(self) -> list[Slot]:
        """Every server slot.

        Raises:
            TokkaError: as `run`.
        """
        lines = self.ask("show servers state").splitlines()
        header = next((line for line in lines if line.startswith("# ")), "")
        names = header[2:].split()
        rows = [
            dict(zip(names, line.split(), strict=False)) for line in lines if line and line[0].isdigit() and " " in line
        ]
        return [
            Slot(
                backend=row["be_name"],
                name=row["srv_name"],
                port=int(row["srv_port"]),
                enabled=not int(row["srv_admin_state"]) & _FORCED_MAINTENANCE,
                running=int(row["srv_op_state"]) == _RUNNING,
            )
            for row in rows
        ]

    def ask(self, command: str) -> str:
        """Send one line and return the whole answer.

        Raises:
            TokkaError: HAProxy does not answer within 2 seconds.
        """
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
        """A short way to the socket: its path may have 107 bytes at most, a home folder's may be longer."""
        return f"/proc/self/fd/{folder}/{self._name}" if sys.platform == "linux" else str(self._folder / self._name)
