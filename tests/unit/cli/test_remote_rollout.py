"""`tokka status --remote` says how the cluster's rollout stands: by the record alone, which the reconciler writes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.kubeflow import FakeKubeflow
from tests.fixtures import small_project
from tokka.cli.main import call
from tokka.deployment.record.claims import Claims
from tokka.deployment.record.record import Record
from tokka.deployment.record.state import Revision, State
from tokka.deployment.record.target import Observed
from tokka.deployment.record.wishes import RECONCILER, Wish, Wishes
from tokka.deployment.remote import waits_for

ONE, TWO = (Revision(version=name, digest=name * 64) for name in "12")


@pytest.fixture
def record(tmp_path, monkeypatch):
    root = small_project.make(tmp_path / "root")
    with FakeKubeflow() as fake:
        for name, value in {"ROOT": root, "HOME": tmp_path / "home", "KFP_HOST": fake.host}.items():
            monkeypatch.setenv(f"TOKKA_{name}", str(value))
        (tmp_path / "home").mkdir()
        yield Record(f"sqlite:///{tmp_path}/home/record.db")


def shown(capsys):
    assert call(["status", "--remote", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])["rollout"]
    assert call(["status", "--remote"]) == 0
    return found, " ".join(capsys.readouterr().out.split())


def endpoint_of(capsys):
    assert call(["status", "--json"]) == 0
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])["record"]["endpoint"]


def test_where_no_cluster_serves_nothing_is_said(record, capsys):
    found, text = shown(capsys)
    assert found is None and "waits for" not in text


def test_phase_shares_evidence_and_what_it_waits_for(record, capsys):
    name = endpoint_of(capsys)
    wishes = Wishes(record)
    record.compare_and_set(record.read(name), champion=ONE)
    wish = wishes.ask(name, "2", "job", {})
    found, text = shown(capsys)
    assert found["waits_for"] == "a reconciler: none gives a sign of life"
    Claims(record).take(RECONCILER, "replica", seconds=600.0)
    assert shown(capsys)[0]["waits_for"] == "the reconciler, to take version 2 up"
    wishes.take(wish)
    state = record.compare_and_set(record.read(name), challenger=TWO, phase="step", share=0.2, rollout="ab12")
    wishes.show(name, Observed(generation=state.generation, champion="1" * 64, challenger="2" * 64, share=0.18))
    record.add_decision(state, {
        "action": "wait", "topic": "requests", "reasons": ["40 of 100 requests"], "values": {"errors": 3.5, "n": 40.0},
        "version": "2", "phase": "step", "share": 0.2, "time": record.clock.time(),
        "rollout": "ab12", "generation": state.generation, "seconds": 1.0, "digest": TWO.digest,
    })  # fmt: skip
    found, text = shown(capsys)
    assert (found["version"], found["phase"], found["wanted"], found["observed"]) == ("2", "step", 0.2, 0.18)
    assert found["evidence"] == {"errors": 3.5, "n": 40.0} and found["waits_for"] == "40 of 100 requests"
    for words in ("version 2, step", "20.0% wanted, 18.0% observed", "errors 3.5", "waits for 40 of 100 requests"):
        assert words in text


@given(taken=st.booleans(), lives=st.booleans(), under_way=st.booleans())
def test_something_is_said_exactly_when_something_is_to_happen(taken, lives, under_way):
    wish = Wish("e", "2", "job", 1.0, 2.0 if taken else 0.0, {})
    given_state = {"challenger": TWO, "phase": "shadow"} if under_way else {}
    said = waits_for(wish, State(endpoint="e", champion=ONE, **given_state), None, lives=lives)
    assert bool(said) == (under_way or not taken)
    assert ("sign of life" in said) == (not lives and bool(said))
