"""What the report says of behaviour and of the data, as text: views of details.behaviour and details.insight."""

from collections.abc import Mapping
from typing import Any

Tree = Mapping[str, Any]


def behaviour_view(details: Tree) -> dict[str, Any] | None:
    """The behaviour section's texts; None when no tests were asked for."""
    found = details.get("behaviour")
    if not found:
        return None
    run = [test for test in found["tests"] if "subjects" in test]
    names = list(found["robustness"])
    failed = [test["name"] for test in run if test["subjects"][names[0]]["verdict"] == "fail"]
    held = f"{len(run) - len(failed)} of {len(run)} tests reach their minimum"
    return {
        "file": found["file"],
        "most": found["rows"],
        "subjects": names,
        "robustness": _robustness(found["robustness"], names),
        "headline": f"{held}{'; short of it: ' + ', '.join(failed) if failed else ''}.",
        "rows": [_row(test, names) for test in run],
        "examples": [
            {"name": test["name"], "examples": shown}
            for test in run
            if (shown := test["subjects"][names[0]]["examples"])
        ],
        "skipped": [test for test in found["tests"] if "skipped" in test],
    }


def insight_view(details: Tree) -> dict[str, Any] | None:
    """The data insight section's texts; None when nothing was looked at."""
    found = details.get("insight")
    if not found:
        return None
    errors, twins, overlap = found["errors"], found["duplicates"], max(found["overlap"].values(), default=0)
    seen = f"{overlap:,} test rows" if overlap else "No test row"
    return {
        "errors": errors,
        "duplicates": twins,
        "flagged": "" if "problem" in errors else _flagged(errors),
        "reading": "" if "problem" in errors else _reading(errors),
        "twins": "" if "problem" in twins else _twins(twins),
        "overlap": f"{seen} can be found in training or validation too.",
        "method": _method(errors) + f" Looked at in {found['seconds']:.0f} s.",
    }


def _robustness(found: Tree, names: list[str]) -> str:
    if found[names[0]] is None:
        return "not measured: no invariance test applies"
    others = [f"{name} {100 * found[name]:.1f} %" for name in names[1:] if found[name] is not None]
    return f"{100 * found[names[0]]:.1f} %" + (f" ({', '.join(others)})" if others else "")


def _row(test: Tree, names: list[str]) -> dict[str, Any]:
    cells = []
    for name in names:
        cell = test["subjects"][name]
        cells.append(
            {
                "subject": name,
                "rate": f"{100 * cell['rate']:.1f} %",
                "bounds": f"{100 * cell['low']:.1f} to {100 * cell['high']:.1f}",
                "count": f"{cell['passed']} of {cell['rows']}",
                "verdict": cell["verdict"],
                "mark": "pass" if cell["verdict"] == "pass" else "refuse",
            }
        )
    return {
        "name": test["name"],
        "kind": test["kind"],
        "note": test["note"],
        "cells": cells,
        "minimum": f"{100 * test['minimum']:.0f} %",
    }


def _flagged(errors: Tree) -> str:
    what = "labels" if errors["kind"] == "labels" else "values"
    return f"{errors['flagged']:,} of {errors['rows']:,} training {what} are suspected ({100 * errors['share']:.1f} %)"


def _reading(errors: Tree) -> str:
    scope = f"A seeded sample of the {errors['of']:,} training rows. " if errors["rows"] < errors["of"] else ""
    if errors["kind"] == "values":
        return f"{scope}Farther than three standard deviations from what the other rows make one expect."
    agreed = f"the head agrees with {100 * errors['agreement']:.1f} % of the labels"
    return (
        f"{scope}Suspected by a linear head that has not seen the row ({agreed}). Some are wrong labels, some only "
        "hard or ambiguous: read the first ones before you change any."
    )


def _twins(twins: Tree) -> str:
    target = "with different targets" if twins["pairs"] else "none of them with different targets"
    return f"{twins['pairs'] or twins['near']:,} pairs of training rows read nearly the same, {target}."


def _method(errors: Tree) -> str:
    if "problem" in errors:
        return ""
    if errors["kind"] == "values":
        return "Values: residuals of a ridge regression on the un-tuned encoder, out of fold."
    return (
        "Labels: cleanlab's confident learning (Northcutt et al., 2021) on out-of-fold probabilities of a linear head "
        "on the un-tuned encoder, which has learned nothing from these labels."
    )
