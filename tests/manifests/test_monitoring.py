"""Rules and dashboards: what Prometheus and Grafana take, and no name in them that our programs do not export."""

import itertools
import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.world import ENDPOINT, World
from tokka.deployment import rollout_files
from tokka.deployment.judge.phases import Action
from tokka.deployment.kserve.reconciler import Reconciler
from tokka.deployment.record.attempts import Attempts
from tokka.deployment.record.state import Revision
from tokka.deployment.record.target import Observed
from tokka.deployment.record.wishes import Wishes
from tokka.gateway.live_traffic import LiveTraffic, RequestMetrics
from tokka.jobs.job_store import JobStore
from tokka.jobs.metrics import JobMetrics
from tokka.request_log.shipping import ShippingMetrics
from tokka.stack.admin_data import AdminData
from tokka.stack.state_file import StackInfo

FOLDER = Path("infra/monitoring")
DASHBOARDS = ["traffic", "operations"]
NAME = re.compile(r"\btokka_[a-z_]+")
LABELS = re.compile(r"\b(tokka_[a-z_]+)\{([^}]*)\}")


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> dict[str, set[str]]:
    """The labels of every sample that our programs show, by its name: gateway, model server, jobs, reconciler."""
    here = World(tmp_path_factory.mktemp("world"))
    here.record.compare_and_set(
        here.state, challenger=Revision(version="2", digest="b" * 64), phase="step", share=0.2, rollout="ab12"
    )
    Attempts(here.record).begin(ENDPOINT, "drift", "key")
    live = LiveTraffic()
    feed = AdminData(here.settings, here.record, live)
    moment = time.time()
    live.observe({
        "version": "2", "status": 200, "route": "predict", "latency_ms": 2.0, "stand_in": True, "time": moment,
        "share": 0.2, "canary": True,
    })  # fmt: skip
    action = Action("wait", "requests", ("too few",), {}, {"errors": 3.5, "errors_limit": 100.0})
    rollout_files.write(here.settings.home, here.state, action, moment)
    info = StackInfo(pid=1, started=1.0, updated=1.0, name=ENDPOINT, endpoint="http://x", share=0.2, generation=2)
    feed.tell(info, here.state)
    jobs, url = CollectorRegistry(), f"sqlite:///{here.settings.home}/jobs.db"
    JobStore(url, ENDPOINT).start("a", "d")
    JobStore(url, ENDPOINT).complete("a", "d", {"model_version": "3"})
    jobs.register(JobMetrics(url, ENDPOINT))
    server = RequestMetrics(CollectorRegistry())
    server.registry.register(ShippingMetrics(here.settings.home))
    server.count("2", "predict", 200, 0.01)
    pages = [live.exposition(), generate_latest(jobs), server.exposition(), reconciler_page(here)]
    found: dict[str, set[str]] = {}
    for page in pages:
        for family in text_string_to_metric_families(page.decode()):
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


def reconciler_page(here: World) -> bytes:
    """What a reconciler shows while it looks after one endpoint."""

    class Work:
        looked = 0.0

        def turn(self) -> None:
            replica.end()

        def tidy(self) -> None:
            replica.end()

    replica = Reconciler(here.record, "a", lambda endpoint: Work())
    Wishes(here.record).show(ENDPOINT, Observed(generation=1, champion="a" * 64, ready=()))
    replica.run()
    for thread in itertools.chain(*replica._threads.values()):
        thread.join()
    return generate_latest(replica.metrics)


def rules() -> list[dict[str, str]]:
    groups = yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.json").read_text())


def expressions() -> list[str]:
    shown = [target["expr"] for name in DASHBOARDS for one in dashboard(name)["panels"] for target in one["targets"]]
    return [*shown, *(rule["expr"] for rule in rules())]


def unknown(expression: str, exported: dict[str, set[str]]) -> list[str]:
    """Names and labels in an expression that nobody exports."""
    lost = [name for name in NAME.findall(expression) if name not in exported]
    for name, inside in LABELS.findall(expression):
        labels = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", inside)
        lost += [f"{name}{{{label}}}" for label in labels if label not in exported.get(name, set())]
    return lost


def test_every_metric_that_is_asked_for_is_exported(exported: dict[str, set[str]]):
    assert [one for expression in expressions() for one in unknown(expression, exported)] == []
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    used = {name for one in expressions() for name in re.findall(r"\btokka:[a-z_:0-9]+", one)}
    assert used <= recorded


@pytest.mark.parametrize("planted", ["rate(tokka_request_total[5m])", 'tokka_share{role="wanted"}'])
def test_a_name_that_nobody_exports_is_found(exported: dict[str, set[str]], planted: str):
    assert len(unknown(planted, exported)) == 1


def test_every_alert_is_tested_and_says_what_to_do():
    tests = yaml.safe_load((FOLDER / "rules_test.yml").read_text())["tests"]
    fired = {one["alertname"] for test in tests for one in test["alert_rule_test"] if one.get("exp_alerts")}
    alerts = {rule["alert"]: rule for rule in rules() if "alert" in rule}
    assert fired == alerts.keys()
    assert all(rule["annotations"].keys() == {"summary", "action"} for rule in alerts.values())
    assert {rule["labels"]["severity"] for rule in alerts.values()} == {"page", "ticket", "notice"}


@pytest.mark.parametrize("words", [("check", "rules", "rules.yml"), ("test", "rules", "rules_test.yml")])
def test_prometheus_takes_the_rules(words: tuple[str, ...]):
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: it is in Debian's package prometheus")
    *command, name = words
    done = subprocess.run(["promtool", *command, str(FOLDER / name)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_has_what_grafana_needs(name: str):
    found = dashboard(name)
    panels = found["panels"]
    assert found["uid"] == f"tokka-{name}" and found["schemaVersion"] >= 36
    assert [one["id"] for one in panels] == [*range(1, len(panels) + 1)]
    assert {one["name"] for one in found["templating"]["list"]} == {"datasource"}
    for one in panels:
        assert one["title"] and one["description"] and one["fieldConfig"]["defaults"]["unit"]
        assert {target["datasource"]["uid"] for target in one["targets"]} == {"${datasource}"}
        letters = [target["refId"] for target in one["targets"]]
        assert len(set(letters)) == len(letters)
    assert not overlapping([one["gridPos"] for one in panels])


def overlapping(places: list[dict[str, int]]) -> list[tuple[int, int]]:
    """Cells of Grafana's grid, 24 wide, that two panels take, or that are outside of it."""
    cells = [(x, y) for one in places for x in range(one["x"], one["x"] + one["w"])
             for y in range(one["y"], one["y"] + one["h"])]  # fmt: skip
    return [cell for cell in cells if cell[0] >= 24] or [cell for cell in set(cells) if cells.count(cell) > 1]


def test_panels_that_overlap_are_found():
    assert overlapping([{"x": 0, "y": 0, "w": 12, "h": 8}, {"x": 11, "y": 0, "w": 12, "h": 8}])
