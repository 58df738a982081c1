"""A version is rebuilt in the precision that its training took, whatever a timing would say now."""

from pathlib import Path
from typing import Any

import pytest

from tokka import provenance
from tokka.errors import Refused
from tokka.params import Params, parse_params
from tokka.runs import reproduce
from tokka.settings import Settings
from tokka.steps import finetune, preprocess, validate_data


@pytest.mark.parametrize(
    ("recorded", "taken"), [({"precision": "bf16"}, "bf16"), ({"precision": "32"}, "32"), ({}, "auto")]
)
def test_the_precision_is_that_of_the_lineage(
    recorded: dict[str, str], taken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Params] = []

    def train(params: Params, *_: Any) -> dict[str, str]:
        asked.append(params)
        return {"digest": "m"}

    monkeypatch.setattr(validate_data, "run", lambda *_: None)
    monkeypatch.setattr(preprocess, "run", lambda *_: {"lock": "", "digest": "d"})
    monkeypatch.setattr(finetune, "run", train)
    lineage = {"snapshot": "", "dvc_lock": "", "data_digest": "d", "model_digest": "m", **recorded}
    settings = Settings.from_environment({"TOKKA_HOME": str(tmp_path)})
    links = reproduce.outputs(lineage, parse_params({"finetuning": {"precision": "auto"}}), settings)
    assert [params.finetuning.precision for params in asked] == [taken]
    assert all(link.same for link in links)


def test_what_is_evaluated_again_is_trained_as_then_and_judged_and_reviewed_as_today(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = Settings.from_environment({"TOKKA_HOME": str(tmp_path)})
    then = parse_params({"finetuning": {"epochs": 2}, "gate": {"minimum": 0.1, "metric": "f1_macro"}})
    today = parse_params(
        {
            "finetuning": {"epochs": 9},
            "gate": {"minimum": 0.9},
            "registry": {"review": "required"},
            "canary": {"alpha": 0.01},
        }
    )
    lineage = {"params": provenance.step_params("evaluate", then), "snapshot": ""}
    monkeypatch.setattr("tokka.registry.publish.fetch_lineage", lambda *_: lineage)
    changed = [reproduce.Link(name="source_digest", recorded="a", found="a")]
    monkeypatch.setattr(reproduce, "inputs", lambda *_: changed)
    found = reproduce.request_again("3", today, settings)
    params = found.params
    assert (found.pipeline, params.finetuning.epochs, params.gate.metric) == ("specialise", 2, "f1_macro")
    assert (params.gate.minimum, params.registry.review, params.canary.alpha) == (0.9, "required", 0.01)
    changed[0] = reproduce.Link(name="source_digest", recorded="a", found="b")
    with pytest.raises(Refused, match="since source_digest changed since it was trained"):
        reproduce.request_again("3", today, settings)
