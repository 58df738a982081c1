"""The life of the local stack: started once, ended whole, mended after any kill."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.fixtures.waiting import LOCAL, PATIENCE_S
from tokka import files
from tokka.deployment.record.state import Revision
from tokka.errors import TokkaError
from tokka.stack import stack
from tokka.stack.state_file import StackInfo

DAMAGES = ("byte", "signature", "digest", "extra file", "missing")


@pytest.fixture(scope="module")
def world(make_world):
    """One home for the tests that follow one another: each leaves its stack running with version 1."""
    return make_world(workers=1)


def test_without_a_champion_the_answer_is_503_and_the_first_version_goes_live_without_a_restart(world):
    info = world.up()
    assert info.endpoint == world.url
    answer = world.ask()
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/json")
    assert "no model serves" in answer.json()["error"]
    world.install("1")
    world.wait(lambda: world.ask().status_code == 200)
    assert world.info().pid == info.pid


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_model_that_is_not_what_was_signed_is_not_served_and_the_last_one_goes_on(world, damage, tmp_path):
    serve(world)
    good, bad = world.revisions["1"], world.revisions["2"]
    folder = world.settings.home / "models" / bad.digest
    shutil.copytree(folder, tmp_path / "kept")
    try:
        spoil(folder, damage, world.settings.home / "models" / world.revisions["3"].digest)
        version = f"1{DAMAGES.index(damage)}"
        world.change(champion=Revision(version=version, digest=bad.digest), previous=good)
        world.wait(lambda: any(f"version {version}" in problem for problem in world.info().problems))
        assert not world.workers(version)
        assert world.ask().json()["model_version"] == "1"
    finally:
        world.change(champion=good, previous=None)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "kept", folder)


def test_a_killed_daemon_is_replaced_and_who_serves_goes_on(world):
    before = serve(world)
    (worker,) = world.workers("1")
    os.kill(before.daemon, signal.SIGKILL)
    assert world.ask().status_code == 200
    world.wait(lambda: world.info().daemon != before.daemon)
    assert world.ask().status_code == 200
    after = world.info()
    assert [one.pid for one in world.workers("1")] == [worker.pid]
    gateways = [pid for pid in before.processes if "haproxy" in command_line_if_any(pid)]
    assert len(gateways) == 2 and set(gateways) <= set(after.processes)
    # It steers what it has taken over.
    world.kill("1")
    world.wait(lambda: [one.pid for one in world.workers("1")] not in ([], [worker.pid]))
    assert world.ask().status_code == 200


def test_a_killed_supervisor_takes_everything_along_and_a_rollout_mends_it(world):
    serve(world)
    os.kill(world.info().pid, signal.SIGKILL)
    world.wait(lambda: not world.processes())
    assert stack.status(world.settings) is None
    world.target.apply(world.record.read("helpdesk"))
    assert world.ask().status_code == 200


def test_down_leaves_nothing(world):
    before = serve(world).pid
    assert world.up().pid == before
    assert len(world.processes()) >= 4
    assert stack.down(world.settings) is True
    assert world.processes() == []
    assert stack.status(world.settings) is None
    assert stack.down(world.settings) is False


def test_two_starters_make_one_stack_and_another_configuration_restarts_it(make_world):
    world = make_world(workers=1)
    world.install("1")
    code = (
        "import sys; from tokka.stack.stack import ensure_up; from tokka.params import parse_params;"
        "from tokka.settings import Settings;"
        "print(ensure_up(Settings.from_environment(), parse_params({'serving': {'workers': 1}})).pid)"
    )
    environment = {**os.environ, **world.settings.environment()}
    starters = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    pids = {starter.communicate(timeout=PATIENCE_S)[0].strip() for starter in starters}
    assert [starter.returncode for starter in starters] == [0, 0]
    assert pids == {str(world.info().pid)}
    # Who wants it configured otherwise gets another one in its place.
    world.params = world.params.model_copy(update={"serving": world.params.serving.model_copy(update={"max_rows": 3})})
    assert {str(world.up().pid)} != pids
    world.wait(lambda: world.ask().status_code == 200)


def test_a_taken_port_is_named(make_world):
    world = make_world(workers=1)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", world.settings.port))
        holder.listen()
        with pytest.raises(TokkaError, match=str(world.settings.port)) as refused:
            world.up()
    assert "TOKKA_PORT" in refused.value.hint
    assert world.processes() == []


def test_a_stale_state_file_is_no_stack(make_world):
    world = make_world(workers=1)
    folder = world.settings.home / "stack"
    folder.mkdir(parents=True)
    word = StackInfo(pid=os.getpid(), started=1.0, updated=time.time(), name="helpdesk", endpoint="")
    files.write_text(folder / "state.json", word.model_dump_json())
    assert stack.status(world.settings) is None
    assert stack.down(world.settings) is False
    with pytest.raises(TokkaError, match="no stack"):
        world.target.observe()


def serve(world):
    """Version 1 behind a running stack, whatever the tests before left."""
    if world.record.read("helpdesk").champion is None:
        world.install("1")
    return world.up()


def spoil(folder, damage, other):
    if damage == "byte":
        content = bytearray((folder / "model.int8.onnx").read_bytes())
        content[len(content) // 2] ^= 1
        (folder / "model.int8.onnx").write_bytes(content)
    elif damage == "signature":
        (folder / "model.sig").unlink()
    elif damage == "extra file":
        (folder / "model.pkl").write_bytes(b"cos\nsystem")
    else:
        shutil.rmtree(folder)
        if damage == "digest":
            shutil.copytree(other, folder)


def command_line(pid):
    return Path(f"/proc/{pid}/cmdline").read_text()


def command_line_if_any(pid):
    try:
        return command_line(pid)
    except OSError:
        return ""


@pytest.mark.slow
def test_the_mlflow_page_comes_by_itself_and_goes_with_the_stack(make_world):
    from tokka.registry.mlflow_client import Registry

    world = make_world(workers=1)
    Registry(world.settings, "helpdesk").prepare()
    info = world.up()
    assert info.mlflow == f"http://127.0.0.1:{world.settings.port + 10}"

    def page():
        try:
            return httpx.get(f"{info.mlflow}/health", **LOCAL).status_code == 200
        except httpx.HTTPError:
            return False

    world.wait(page)
    os.kill(world.info().pid, signal.SIGKILL)
    world.wait(lambda: not world.processes())
