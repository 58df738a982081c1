"""The gateway: HAProxy in front of all workers, configured once and changed over its socket, never reloaded.

Server slots are declared ahead, in maintenance; a worker takes a slot by address. The challenger's backend has the
champion's workers as backups, so that a dead challenger costs no request.
"""

import logging
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jinja2

from tokka import files
from tokka.errors import TokkaError
from tokka.gateway.exposure import OWN_CLIENT, Exposure
from tokka.gateway.haproxy import HAProxy
from tokka.gateway.runtime_api import RuntimeApi, Slot
from tokka.processes.detached import adopting
from tokka.processes.stack_key import StackKey

logger = logging.getLogger("tokka.gateway")

HOST = "127.0.0.1"
WEIGHT_MAP, NAMES_MAP = "weight.map", "names.map"
FRONT, LARGE = "haproxy", "large"
SOCKET = f"{FRONT}.sock"
# In the working folder: takes a JSON line per request.
LOG_SOCKET = "log.sock"
# A body up to here, and the longest header section, fit into the front process's buffer (tune.bufsize).
SMALL_BODY_BYTES, MAX_HEAD_BYTES, MAX_HEADERS = 32_768, 16_384, 100
# Large bodies of each backend: on their way at a time (fewer of one client), and being answered at a time.
LARGE_PLACES, LARGE_PLACES_EACH, LARGE_ANSWERED, LARGE_WAIT_MS = 64, 48, 8, 1000
NOBODY = "none"
# The challenger's weight is of so many: a share has a resolution of 0.01 %.
WEIGHT_TOTAL = 10_000


@dataclass(frozen=True)
class Split:
    """The revisions (`VERSION@DIGEST`), the ports of their ready workers, and the challenger's share in [0, 1].

    The ports for gRPC are the same workers', in the same order. A user's side is drawn once for each `rollout`.
    """

    champion: str = NOBODY
    champion_ports: tuple[int, ...] = ()
    challenger: str = NOBODY
    challenger_ports: tuple[int, ...] = ()
    share: float = 0.0
    champion_grpc_ports: tuple[int, ...] = ()
    challenger_grpc_ports: tuple[int, ...] = ()
    rollout: str = NOBODY


class Gateway:
    """Two HAProxy processes; those of a predecessor are taken over if their configuration is the same.

    A request can be sent again while it lies whole in a buffer, and all buffers of a process have one size, which is
    copied for every request. So a body beyond 32 KiB goes to a second process, whose buffers hold the largest.

    Args:
        folder: working folder; configuration, maps and socket lie in it.
        port: for REST; gRPC has `exposure.grpc_port`, or the next one.
        slots: most workers of one revision.
        in_flight: requests that one worker has at a time; more wait here.
        max_wait_ms: how long they wait before they are answered with 503.
        log: file for HAProxy's own messages.
        jobs: Unix socket that takes asynchronous requests, relative to `folder`; none when empty.
        supervisor: the process whose end ends them; this one by default.

    Raises:
        TokkaError: no HAProxy is installed, the port is taken, or HAProxy does not start.
    """

    def __init__(
        self, folder: Path, *, port: int, slots: int, max_body_bytes: int, log: Path, jobs: str = "",
        exposure: Exposure | None = None, in_flight: int = 32, max_wait_ms: int = 20, supervisor: int | None = None,
    ) -> None:  # fmt: skip
        exposure = exposure or Exposure(grpc_port=port + 1)
        self.port = port
        values = {
            **exposure.values(), **StackKey.of(folder).configuration(), "weight_map": WEIGHT_MAP,
            "names_map": NAMES_MAP, "own_client": OWN_CLIENT, "jobs": jobs, "port": port, "log_socket": LOG_SOCKET,
            "slots": slots, "max_body_bytes": max_body_bytes, "in_flight": in_flight, "max_wait_ms": max_wait_ms,
        }  # fmt: skip
        supervisor = supervisor or adopting()
        self._front = HAProxy(folder, FRONT, render(values), supervisor, log)
        self._large = HAProxy(folder, LARGE, render(values, large=True), supervisor, log)
        self.api = self._front.api
        if not self._front.alive():
            require_free(port, exposure.host)
            require_free(exposure.grpc_port, exposure.host, "TOKKA_GRPC_PORT")
            files.write_text(folder / WEIGHT_MAP, "challenger 0\n")
            files.write_text(
                folder / NAMES_MAP, f"champion {NOBODY}\nchallenger {NOBODY}\nrollout {NOBODY}\nshare 0.0000\n"
            )
            self._front.start()
        try:
            if not self._large.alive():
                self._large.start()
        except TokkaError:
            self._front.stop()
            raise

    @property
    def pids(self) -> list[int]:
        """The front process, and the one behind it for large bodies."""
        return self._front.pids + self._large.pids

    def alive(self) -> bool:
        """Whether the front process lives."""
        return self._front.alive()

    def stop(self) -> None:
        """Take no new connection, finish what runs (at most 3 seconds), and end."""
        self._front.stop()
        self._large.stop()

    def sync(self, wanted: Split) -> None:
        """Make HAProxy do what is wanted, changing only what differs; raises TokkaError when it refuses or is silent.

        A falling weight is set before servers change, a rising one after, so that no request goes to an empty backend.
        """
        self._sync_large(wanted)
        names, weight = self._state()
        target = round(wanted.share * WEIGHT_TOTAL) if wanted.challenger_ports else 0
        others = (names["challenger"], names["rollout"]) != (wanted.challenger, wanted.rollout)
        before = 0 if others else min(weight, target)
        commands = _set_weight(before) if before != weight else []
        commands += place_workers(self.api.slots(), wanted)
        for role, digest in (
            ("champion", wanted.champion), ("challenger", wanted.challenger), ("rollout", wanted.rollout)
        ):  # fmt: skip
            if names[role] != digest:
                commands.append(f"set map {NAMES_MAP} {role} {digest}")
        commands += _set_weight(target) if target != before else []
        self.api.run(commands)

    def _state(self) -> tuple[dict[str, str], int]:
        return self.api.map(NAMES_MAP), int(self.api.map(WEIGHT_MAP)["challenger"])

    def _sync_large(self, wanted: Split) -> None:
        """Before the front process, which may then send it requests of every revision; its end stops no small ones."""
        try:
            if not self._large.alive():
                self._large.start()
            self._large.api.run(place_workers(self._large.api.slots(), wanted))
        except TokkaError as error:
            logger.warning("large bodies are not answered: %s", error)

    def observe(self) -> Split:
        """What HAProxy really does now, where only servers that are up count; raises TokkaError without an answer."""
        names, weight = self._state()
        up = [slot for slot in self.api.slots() if slot.enabled and slot.running and slot.name.startswith("w")]
        champions = tuple(slot.port for slot in up if slot.backend == "champion")
        challengers = tuple(slot.port for slot in up if slot.backend == "canary")
        return Split(
            names["champion"],
            champions,
            names["challenger"],
            challengers,
            weight / WEIGHT_TOTAL,
            rollout=names["rollout"],
        )


def seats(slots: list[Slot], ports: tuple[int, ...]) -> dict[str, int]:
    """Slot name to port, for exactly these ports; a port that has a slot keeps it."""
    kept = {slot.name: slot.port for slot in slots if slot.enabled and slot.port in ports}
    free = [slot.name for slot in slots if slot.name not in kept]
    return kept | dict(zip(free, [port for port in ports if port not in kept.values()], strict=False))


def place(slots: list[Slot], wanted: Mapping[str, int], *, checked: bool = True) -> list[str]:
    """Commands that put ports into slots by name, and the other slots into maintenance.

    `checked` slots have a health check of their own; others follow another one's.
    """
    commands: list[str] = []
    for slot in slots:
        port, server = wanted.get(slot.name), f"{slot.backend}/{slot.name}"
        if port is not None and not (slot.enabled and slot.port == port):
            commands += [f"set server {server} addr {HOST} port {port}", f"set server {server} state ready"]
            # The worker has said that it is ready: do not wait for a check to find out.
            commands += [f"set server {server} health up"] if checked else []
    idle = [slot for slot in slots if slot.enabled and slot.name not in wanted]
    return commands + [f"set server {slot.backend}/{slot.name} state maint" for slot in idle]


def place_workers(slots: list[Slot], wanted: Split) -> list[str]:
    """Commands that put the workers of a split into the slots of one process.

    One slot of a worker is checked (`champion/wN`, `canary/wN`); its slots for gRPC and its backup follow that one.
    """
    found: dict[tuple[str, str], list[Slot]] = {}
    for slot in slots:
        found.setdefault((slot.backend, slot.name[0]), []).append(slot)
    champions = seats(found["champion", "w"], wanted.champion_ports)
    challengers = seats(found["canary", "w"], wanted.challenger_ports)
    grpc = dict(zip(wanted.champion_ports, wanted.champion_grpc_ports, strict=False))
    grpc |= dict(zip(wanted.challenger_ports, wanted.challenger_grpc_ports, strict=False))
    backups = {f"b{name[1:]}": port for name, port in champions.items()}
    commands = place(found["champion", "w"], champions) + place(found["canary", "w"], challengers)
    commands += place(found["canary", "b"], backups, checked=False)
    for key, ports in (
        (("grpc_champion", "w"), champions), (("grpc_canary", "b"), backups), (("grpc_canary", "w"), challengers),
    ):  # fmt: skip
        follow = {name: grpc[port] for name, port in ports.items() if port in grpc}
        commands += place(found[key], follow, checked=False)
    return commands


def render(values: Mapping[str, str | int | bool], *, large: bool = False) -> str:
    """The configuration of the front process, or of the one for large bodies."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, undefined=jinja2.StrictUndefined, autoescape=False, trim_blocks=True, keep_trailing_newline=True
    )
    sizes = {
        "front": FRONT, "large_name": LARGE, "small_body_bytes": SMALL_BODY_BYTES, "large_places": LARGE_PLACES,
        "large_places_each": LARGE_PLACES_EACH, "large_answered": LARGE_ANSWERED,
        "large_wait_ms": LARGE_WAIT_MS, "max_headers": MAX_HEADERS, "max_head_bytes": MAX_HEAD_BYTES,
    }  # fmt: skip
    return environment.get_template("haproxy.cfg.j2").render({**values, **sizes, "large": large})


def require_free(port: int, host: str = HOST, variable: str = "TOKKA_PORT") -> None:
    """Raise TokkaError when a process listens on a port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise TokkaError(
                f"port {port} is taken ({error.strerror})", f"end what listens there, or choose another with {variable}"
            ) from None


def _set_weight(weight: int) -> list[str]:
    share = f"set map {NAMES_MAP} share {weight / WEIGHT_TOTAL:.4f}"
    return [share, f"set map {WEIGHT_MAP} challenger {weight}"]


def forget_grants(folder: Path) -> bool:
    """Have a running gateway ask about every credential again; False when none runs, or it has no authentication.

    Raises TokkaError when it runs and does not answer.
    """
    if not (folder / SOCKET).exists():
        return False
    try:
        return "forgotten" in RuntimeApi(folder, SOCKET).ask("forget grants")
    except TokkaError as error:
        # The socket of a gateway that has ended.
        if isinstance(error.__context__, (ConnectionRefusedError, FileNotFoundError)):
            return False
        raise
