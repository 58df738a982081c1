"""What the admin page is told about a rollout, and what it does not give away."""

import time

import pytest

from tests.fakes.world import ENDPOINT, World
from tokka.deployment import rollout_files
from tokka.deployment.judge.phases import Action
from tokka.deployment.record.state import Revision
from tokka.gateway.live_traffic import LiveTraffic
from tokka.stack import admin
from tokka.stack.admin_data import AdminData, reports
from tokka.stack.state_file import StackInfo

LOOK = {
    "errors": 3.5,
    "errors_limit": 100.0,
    "errors_rate_limit": 0.02,
    "slow": 1.0,
    "slow_limit": 100.0,
    "requests": 7,
}


@pytest.fixture
def here(tmp_path):
    """A world in the middle of a step."""
    here = World(tmp_path)
    challenger = Revision(version="2", digest="b" * 64)
    here.record.compare_and_set(here.state, challenger=challenger, phase="step", share=0.2, rollout="ab12")
    return here


@pytest.fixture
def feed(here):
    return AdminData(here.settings, here.record, LiveTraffic())


def look(here, feed, *, seconds_ago=0.0, **values):
    action = Action("wait", "requests", ("too few requests",), {}, {**LOOK, **values})
    rollout_files.write(here.settings.home, here.state, action, time.time() - seconds_ago)
    tell(here, feed)


def tell(here, feed):
    info = StackInfo(pid=1, started=1.0, updated=1.0, name=ENDPOINT, endpoint="http://x", share=0.2, generation=2)
    feed.tell(info, here.state)


def test_the_e_values_and_their_path_to_the_thresholds_are_shown(here, feed):
    look(here, feed, errors=1.5)
    look(here, feed)
    judge = feed.status()["judge"]
    assert (judge["version"], judge["phase"], judge["reasons"]) == ("2", "step", ["too few requests"])
    errors, slow = judge["metrics"]
    assert errors == {"metric": "errors", "e_value": 3.5, "limit": 100.0, "path": [1.5, 3.5]}
    assert slow["metric"] == "slow"
    text = feed.live.exposition().decode()
    assert 'tokka_judge_e_value{metric="errors",phase="step",version="2"} 3.5' in text
    assert 'tokka_judge_e_value_threshold{metric="errors",phase="step",version="2"} 100.0' in text
    assert 'tokka_share{kind="wanted"} 0.2' in text
    assert 'tokka_workers_ready{role="challenger",version="2"} 0.0' in text


def test_a_judge_that_has_gone_silent_or_belongs_to_another_rollout_is_not_shown(here, feed):
    look(here, feed, seconds_ago=90)
    assert feed.status()["judge"] is None
    here.record.compare_and_set(here.state, rollout="cd34")
    look(here, feed)
    assert feed.status()["judge"]["version"] == "2"
    here.record.compare_and_set(here.state, rollout="ef56")
    tell(here, feed)
    assert feed.status()["judge"] is None
    here.record.compare_and_set(here.state, challenger=None, phase="idle", share=0.0)
    look(here, feed)
    assert feed.status()["judge"] is None


def test_only_reports_are_served(here, feed):
    home = here.settings.home
    for name in ("rollouts/ab12/predictions.html", "keys/report.html", "rollouts/ab12/rollout_files.json"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("<html>")
    (home / "rollouts" / "cd34").mkdir()
    (home / "rollouts" / "cd34" / "report.html").symlink_to("/etc/passwd")
    assert [one["name"] for one in reports(home)][-1:] == ["rollouts/ab12/predictions.html"]
    status, body, kind, policy = admin.answer("/reports/rollouts/ab12/predictions.html", feed, home)
    assert (status, body, kind) == (200, b"<html>", "text/html; charset=utf-8")
    assert "sandbox" in policy
    for name in (
        "keys/report.html", "rollouts/ab12/rollout_files.json", "../keys/report.html", "rollouts/../keys/report.html",
        "rollouts/cd34/report.html", "", "/etc/passwd",
    ):  # fmt: skip
        assert admin.answer(f"/reports/{name}", feed, home)[0] == 404, name
