"""From the evaluation of a real small model to a signed version that waits, with a real record and MLflow."""

import json
from pathlib import Path

import pytest

from tests.unit.evaluation.conftest import base, params, prepared, specialist  # noqa: F401 (fixtures)
from tokka import files
from tokka.deployment.record.record import Record
from tokka.deployment.record.state import Revision
from tokka.deployment.review.admission import SignedAdmission
from tokka.deployment.review.versions import decide
from tokka.errors import Refused
from tokka.registry import entities
from tokka.registry.mlflow_client import Registry
from tokka.settings import Settings
from tokka.steps import evaluate, gate, register, review

NAME = "desk"


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    home = tmp_path_factory.mktemp("gate-home")
    return Settings.from_environment({"TOKKA_HOME": str(home), "TOKKA_ROOT": str(Path(__file__).parents[3])})


@pytest.fixture
def rules(params, settings):  # noqa: F811
    (settings.home / "data.csv").write_text("text,label\nhello,refund\n")
    source = {"source": str(settings.home / "data.csv")}
    return params(registry={"model": NAME, "review": "required"}, data=source)


def test_what_the_gate_judged_is_signed_and_nothing_else(
    settings, rules, prepared, specialist, tmp_path, monkeypatch  # noqa: F811
):  # fmt: skip
    monkeypatch.setenv("TOKKA_AUTHOR", "ana")
    monkeypatch.setenv("TOKKA_HOME", str(settings.home))
    out, record = tmp_path / "evidence", Record(settings.record_url)
    run_id, evaluation = evaluate.run(
        rules, settings, prepared=prepared, model=specialist, key="k1", snapshot="", out=out
    )  # fmt: skip

    def judge(name):
        return gate.run(rules, settings, evaluation=out, run_id=run_id, out=tmp_path / name)

    false = {
        **evaluation,
        "candidate": {**evaluation["candidate"], "size_mb": evaluation["candidate"]["size_mb"] * 1e3},
    }
    files.write_json(out / "evaluation.json", false)
    assert any("weighs" in reason for reason in judge("false")["reasons"])
    files.write_text(out / "evaluation.json", "no json")
    assert judge("broken")["verdict"] == "refuse"
    files.write_json(out / "evaluation.json", evaluation)
    assert judge("true")["verdict"] == "pass"

    # A tag that says otherwise, and a decision that somebody else has stored, move nothing.
    registry = Registry(settings, NAME)
    registry.tag_run(run_id, {entities.GATE: "refuse"})
    version = register.run(rules, settings, run_id)
    bundle = SignedAdmission(record, rules, settings).bundle(version)
    assert (bundle.verdict, bundle.author) == ("pass", "ana")
    assert bundle.evaluation_digest == files.digest_file(out / "evaluation.json")
    assert bundle.model_digest == evaluation["candidate"]["digest"]
    assert json.loads((out / "details.json").read_text())["gate"]["verdict"] == "pass"

    assert review.run(rules, settings, version) == "waiting"
    registry.tag_version(version, {entities.REVIEW: "approved", entities.REVIEWER: "eve"})
    assert review.run(rules, settings, version) == "waiting"
    decide("approved", version, "ben", "I looked", rules, settings)
    assert review.run(rules, settings, version) == "approved"

    record.compare_and_set(record.read(NAME), champion=Revision(version="9", digest="9" * 64))
    assert review.run(rules, settings, version) == "waiting"
    moved = judge("moved")
    assert any("the champion has moved, evaluate again" in reason for reason in moved["reasons"])
    with pytest.raises(Refused, match="the champion has moved"):
        register.run(rules, settings, run_id)
