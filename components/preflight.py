"""preflight: everything reachable, writable and large enough, before anything costs; and what the later tasks need."""

from typing import NamedTuple

from kfp import dsl

from components import component


@component
def preflight(
    endpoint: str,
    data_source: str,
    text_column: str,
    label_column: str,
    strategy: str,
    base_model: str,
    epochs: int,
    review: str,
    overrides: dict,
    snapshot: str,
    job: str,
    submitted_key: str,
    submitted_data: str,
    plan: dsl.Output[dsl.HTML],
    claims: bool = True,
) -> NamedTuple(
    "Outputs",
    [
        ("Output", str),
        ("key", str),
        ("reasons", str),
        ("params", dict),
        ("validate_data", dict),
        ("preprocess", dict),
        ("finetune", dict),
        ("evaluate", dict),
    ],
):
    """Compose the params, check the surroundings, and return new, made or refused, as the same key went before.

    Then the key, why, the params, and for each cached step its inputs. Without `claims` the key stays free: for who
    makes nothing under it.
    """
    from pathlib import Path

    from tokka.settings import Settings
    from tokka.steps import preflight as step

    fields = {
        "endpoint": endpoint,
        "data_source": data_source,
        "text_column": text_column,
        "label_column": label_column,
        "strategy": strategy,
        "base_model": base_model,
        "epochs": epochs,
        "review": review,
    }
    submitted = {"key": submitted_key, "source": submitted_data}
    page, settings = Path(plan.path), Settings.from_environment()
    found = step.start(fields, overrides, settings, snapshot, job, page, submitted, claims=claims)
    return (found.verdict, found.key, found.reasons, found.params, *found.inputs.values())
