"""The gateway's pure parts: which commands a split takes, and what the configuration holds."""

import subprocess
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokka.errors import TokkaError
from tokka.gateway.exposure import Exposure
from tokka.gateway.gateway import Split, place, place_workers, render, require_free, seats
from tokka.gateway.haproxy import find_haproxy
from tokka.gateway.runtime_api import Slot
from tokka.processes.stack_key import StackKey


def slot(name, port=9, *, enabled=False, running=False):
    return Slot("champion", name, port, enabled, running)


def fill(slots, ports):
    return place(slots, seats(slots, ports))


def test_a_new_port_takes_a_free_slot():
    commands = fill([slot("w1"), slot("w2")], (5001,))
    assert commands[0] == "set server champion/w1 addr 127.0.0.1 port 5001"
    assert commands[1] == "set server champion/w1 state ready"
    assert not [command for command in commands if "w2" in command]


def test_a_port_that_has_a_slot_keeps_it():
    assert fill([slot("w1", 5002, enabled=True), slot("w2", 5001, enabled=True)], (5001, 5002)) == []


def test_another_revision_takes_the_slots_over_and_the_rest_rests():
    slots = [slot("w1", 5001, enabled=True), slot("w2", 5002, enabled=True)]
    commands = fill(slots, (6001,))
    assert commands[0] == "set server champion/w1 addr 127.0.0.1 port 6001"
    assert commands[-1] == "set server champion/w2 state maint"
    assert fill(slots, ()) == ["set server champion/w1 state maint", "set server champion/w2 state maint"]


def test_a_port_in_a_resting_slot_is_not_taken_for_serving():
    assert "set server champion/w1 state ready" in fill([slot("w1", 5001)], (5001,))


PORTS = st.lists(st.integers(5000, 5005), max_size=3, unique=True).map(tuple)


@given(st.lists(st.tuples(PORTS, PORTS.map(lambda ports: tuple(port + 100 for port in ports))), max_size=6), st.data())
def test_whatever_broke_off_each_worker_s_slots_have_one_number(splits, data):
    """A slot follows the health check of the slot of its number: they must hold the same worker."""
    slots = {
        (backend, f"{kind}{number}"): Slot(backend, f"{kind}{number}", 9, False, False)
        for backend in ("champion", "canary", "grpc_champion", "grpc_canary")
        for kind in ("w", "b") if kind == "w" or backend.endswith("canary")
        for number in (1, 2, 3)
    }  # fmt: skip
    for champions, challengers in splits:
        wanted = Split(
            champion_ports=champions, champion_grpc_ports=tuple(port + 1000 for port in champions),
            challenger_ports=challengers, challenger_grpc_ports=tuple(port + 1000 for port in challengers),
        )  # fmt: skip
        commands = place_workers(list(slots.values()), wanted)
        # Whoever gave them may have been killed in between; whoever comes next gives the rest.
        run(commands[: data.draw(st.integers(0, len(commands)))], slots)
        run(place_workers(list(slots.values()), wanted), slots)
        serving = {key: slot.port for key, slot in slots.items() if slot.enabled}
        for backend, kind, ports, leader, more in (
            ("champion", "w", champions, "champion", 0), ("canary", "w", challengers, "canary", 0),
            ("canary", "b", champions, "champion", 0), ("grpc_champion", "w", champions, "champion", 1000),
            ("grpc_canary", "w", challengers, "canary", 1000), ("grpc_canary", "b", champions, "champion", 1000),
        ):  # fmt: skip
            held = {name: port - more for (where, name), port in serving.items() if (where, name[0]) == (backend, kind)}
            assert sorted(held.values()) == sorted(ports)
            assert all(serving[leader, f"w{name[1:]}"] == port for name, port in held.items())


def run(commands, slots):
    for command in commands:
        _, _, server, what, *rest = command.split()
        key = tuple(server.split("/"))
        if what == "addr":
            slots[key] = replace(slots[key], port=int(rest[-1]))
        elif what == "state":
            slots[key] = replace(slots[key], enabled=rest == ["ready"])


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("jobs", ["", "jobs.sock"])
@pytest.mark.parametrize("exposure", [Exposure(18082), Exposure(18082, "0.0.0.0", True, 5)])
def test_haproxy_takes_the_configuration(tmp_path, exposure, jobs, large):
    values = {"weight_map": "weight.map", "names_map": "names.map", "own_client": "tokka", "jobs": jobs}
    values |= {"log_socket": "log.sock", **StackKey.of(tmp_path).configuration()}
    sizes = {"port": 18080, "slots": 3, "max_body_bytes": 1000, "in_flight": 8, "max_wait_ms": 9}
    (tmp_path / "haproxy.cfg").write_text(render({**values, **sizes, **exposure.values()}, large=large))
    (tmp_path / "weight.map").write_text("challenger 0\n")
    (tmp_path / "names.map").write_text("champion none\n")
    command = [find_haproxy(), "-c", "-f", "haproxy.cfg"]
    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stderr


def test_a_taken_port_is_named():
    import socket

    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(TokkaError, match=f"port {port} is taken"):
            require_free(port)
    require_free(port)
