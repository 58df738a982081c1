"""A person decides in MLflow's page, and the stack does the rest: with nothing serving, beside a champion, after one.

The tests of this file tell one story and run in order.
"""

import time

import httpx
import pytest

from tests.fixtures.tiny_model import make_tiny_base
from tests.fixtures.visitors import Visitors
from tests.fixtures.waiting import LOCAL, wait_for
from tests.loop.world import TIMEOUT, World
from tokka.deployment.record.record import Record
from tokka.deployment.review import versions
from tokka.processes.page_password import USER, password_file
from tokka.stack.services import page_port

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reviewed")
    found = World(
        folder, make_tiny_base(folder / "base"), rows=600,
        registry={"review": "required"}, review={"trust": "open"}, finetuning={"epochs": 2},
    )  # fmt: skip
    yield found
    found.close()


def approve(world, version):
    """As MLflow's page does it."""
    address, password = f"http://127.0.0.1:{page_port(world.settings)}", password_file(world.home).read_text()

    def answers():
        try:
            return httpx.get(f"{address}/health", **LOCAL).status_code == 200
        except httpx.HTTPError:
            return False

    wait_for(answers, TIMEOUT, "MLflow's page")
    said = {"name": world.params().registry.model, "version": version, "key": "tokka.review", "value": "approved"}
    path = "/ajax-api/2.0/mlflow/model-versions/set-tag"
    answer = httpx.post(f"{address}{path}", json=said, auth=(USER, password), **LOCAL)
    assert answer.status_code == 200, answer.text


def serves(world, version):
    state = world.state()
    return state.phase == "idle" and state.champion is not None and state.champion.version == version


def newest(world):
    return versions.list_versions(world.params(), world.settings)[0]


def shadow_was_asked(world):
    """Whether a look was made at what the shadow answered: the request log has none of its requests."""
    record = Record(world.settings.record_url)
    decisions = record.decisions(world.params().registry.model, version="2")
    return any(one["phase"] == "shadow" for one in decisions)


def logs(world):
    return "".join(path.read_text()[-1500:] for path in sorted((world.home / "logs").glob("*.log")))


def test_the_first_version_waits_and_is_rolled_out_when_it_is_approved(reviewed):
    reviewed.start("up").communicate(timeout=TIMEOUT)
    final = reviewed.tokka("run")
    assert (final["version"], final["review"], final["canary"]) == ("1", "waiting", None)
    approve(reviewed, "1")
    wait_for(lambda: serves(reviewed, "1"), TIMEOUT, lambda: logs(reviewed))


@pytest.mark.parametrize(("version", "seed"), [("2", 8), ("3", 9)])
def test_the_next_ones_wait_beside_a_champion(reviewed, version, seed):
    final = reviewed.tokka("run", "--set", f"finetuning.seed={seed}")
    assert (final["version"], final["review"]) == (version, "waiting")


def test_an_approval_beside_a_champion_starts_the_shadow_in_seconds(reviewed, capsys):
    reviewed.wait_until_completed()
    with Visitors(f"http://127.0.0.1:{reviewed.settings.port}"):
        approve(reviewed, "2")
        began = time.monotonic()
        wait_for(lambda: shadow_was_asked(reviewed), TIMEOUT, lambda: logs(reviewed))
        seconds = time.monotonic() - began
        wait_for(lambda: serves(reviewed, "2"), TIMEOUT, lambda: logs(reviewed))
    with capsys.disabled():
        print(f"\nfrom the tag in MLflow to the first shadow request: {seconds:.1f} s")


def test_what_waited_meanwhile_is_evaluated_against_the_new_champion_without_a_training(reviewed):
    known = newest(reviewed)
    if known["version"] == "3":
        wait_for(lambda: newest(reviewed)["version"] == "4", TIMEOUT, lambda: logs(reviewed))
    third, fourth = (versions.show_version(one, reviewed.params(), reviewed.settings) for one in ("3", "4"))
    assert third["digest"] == fourth["digest"]
    assert fourth["verdict"] == "waiting"
    assert (third["evidence"]["champion_version"], fourth["evidence"]["champion_version"]) == ("1", "2")
    assert "tokka review evaluate 3" in third["reason"] or third["verdict"] == "waiting"
    approve(reviewed, "4")
    with Visitors(f"http://127.0.0.1:{reviewed.settings.port}"):
        wait_for(lambda: serves(reviewed, "4"), TIMEOUT, lambda: logs(reviewed))
