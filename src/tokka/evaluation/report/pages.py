"""The page of each pipeline step: one HTML file each, verdict first, that needs neither script nor network.

Pure: every page follows from what its step returned. Kubeflow shows them in a sandboxed frame.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokka.evaluation.report.charts import training_figures
from tokka.evaluation.report.figures import CANDIDATE, CHAMPION, GENERAL, INK, Canvas
from tokka.files import Tree

FOLDER = Path(__file__).parent
SPLIT_COLOURS = {"train": CANDIDATE, "validation": GENERAL, "test": CHAMPION}
SHOWN_CLASSES = 40
# What a rollout can come to, and whether that is what was hoped for.
ROLLOUTS = {
    "promoted": ("promoted", True),
    "rolled_back": ("rolled back", False),
    "held": ("held back", False),
    "superseded": ("superseded", False),
}


@dataclass(frozen=True)
class Section:
    """A card of a page; what is empty is left out. `html` and `figures` must be safe, `links` are name and address."""

    title: str = ""
    head: Sequence[str] = ()
    rows: Sequence[Sequence[object]] = ()
    figures: Sequence[str] = ()
    links: Sequence[tuple[str, str]] = ()
    html: str = ""
    note: str = ""


def page(
    title: str, *, kicker: str, sections: Sequence[Section], verdict: str = "", good: bool = True, lead: str = "",
    reasons: Sequence[str] = (), tiles: Sequence[tuple[str, str, str]] = (),
) -> str:  # fmt: skip
    """HTML text: a heading with its verdict, the figures above all others (name, value, note), then the sections."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("page.html.jinja").render(
        style=(FOLDER / "report.css").read_text(encoding="utf-8"), title=title, kicker=kicker, sections=sections,
        verdict=verdict, good=good, lead=lead, reasons=reasons, tiles=tiles,
    )  # fmt: skip


def preflight_page(plan: Tree, checks: Sequence[Tree]) -> str:
    """What the run will do and with what; a key that was made before says which version that was."""
    words = {"new": "starts", "made": "was made before", "refused": "was refused before"}
    params: Tree = plan["params"]
    values = [(f"{section}.{key}", _short(value)) for section, found in params.items() for key, value in found.items()]
    return page(
        "Preflight",
        kicker=f"{params['registry']['model']} · {params['task']['type']}",
        verdict=words[plan["verdict"]],
        good=plan["verdict"] != "refused",
        reasons=plan["reasons"].splitlines(),
        tiles=_made_tiles(plan["made"]),
        sections=[
            Section("What was looked at", ("", "", "Found"), [("✓", one["name"], one["found"]) for one in checks]),
            Section(
                "What the results follow from", rows=[("key", plan["key"]), *_inputs(plan["inputs"])],
                note="A step whose inputs are those of an earlier run takes that run's result.",
            ),
            Section("Parameters", ("Key", "Value"), values),
        ],
    )  # fmt: skip


def _made_tiles(made: Tree) -> list[tuple[str, str, str]]:
    if not made:
        return []
    canary, gate = made.get("canary") or {}, made.get("gate") or {}
    return [
        ("version", str(made.get("version") or "none"), "of the same key"),
        ("gate", str(gate.get("verdict", "not reached")), ""),
        ("canary", str(canary.get("verdict", "not reached")).replace("_", " "), ""),
    ]


def _inputs(inputs: Mapping[str, Tree]) -> list[tuple[str, str]]:
    return [
        (f"{step}: {name}", str(value))
        for step, found in inputs.items()
        for name, value in found.items()
        if name != "params" and value
    ]


def refusal_page(title: str, model: str, reasons: Sequence[str], quarantined: Sequence[Tree] = ()) -> str:
    """A step that refused before it had anything to show but the lines that it could not read."""
    rows = [(row.get("file", ""), row.get("line", ""), row.get("reason", "")) for row in quarantined]
    found = [Section("Lines that could not be read", ("File", "Line", "Why"), rows)] if rows else []
    return page(title, kicker=model, verdict="refused", good=False, reasons=reasons, sections=found)


def split_page(outcome: Tree, model: str) -> str:
    """How many rows of which class are where, and what was left out."""
    summary: Tree = outcome["summary"]
    rows, classes = summary["rows"], summary["classes"]
    left_out = {
        "exact duplicates": summary["exact_duplicates"],
        "duplicates with other targets": summary["conflicting_targets"],
        "near-duplicates across splits": summary["near_duplicates"],
        "rows of groups that are tested": summary["rows_of_test_groups"],
        "rows of classes that are too small": summary["dropped_rows"],
    }
    sections = [
        Section("Left out", rows=[(name, f"{count:,}") for name, count in left_out.items()]),
        Section("Versioned", rows=[(name, outcome[name]) for name in ("digest", "dvc_md5", "remote", "origin")]),
    ]
    if classes:
        names = sorted(classes["train"], key=lambda name: -classes["train"][name])
        counted = [(name, *(classes[split].get(name, 0) for split in SPLIT_COLOURS)) for name in names]
        sections.insert(0, Section("Rows of each class", figures=[_split_figure(classes)]))
        sections.append(Section("Counts", ("Class", *SPLIT_COLOURS), counted))
    return page(
        "Train, validation and test rows",
        kicker=f"{model} · {summary['task']}",
        lead="A row stays in its split through every retraining: a hash of its text decides.",
        tiles=[(name, f"{rows[name]:,}", "rows") for name in SPLIT_COLOURS]
        + ([("classes", str(len(classes["train"])), "")] if classes else []),
        sections=sections,
    )


def _split_figure(classes: Mapping[str, Mapping[str, int]]) -> str:
    names = sorted(classes["train"], key=lambda name: classes["train"][name])[-SHOWN_CLASSES:]
    with Canvas(640, 60 + 16 * len(names), scale=1.0) as canvas:
        start = dict.fromkeys(names, 0)
        for split, colour in SPLIT_COLOURS.items():
            counts = [classes[split].get(name, 0) for name in names]
            canvas.axes.barh(names, counts, left=list(start.values()), color=colour, height=0.7, label=split)
            start = {name: start[name] + count for name, count in zip(names, counts, strict=True)}
        canvas.axes.legend(frameon=False, ncols=3, loc="lower right", labelcolor=INK, bbox_to_anchor=(1.0, 1.0))
        canvas.axes.set(xlabel="rows")
        canvas.axes.margins(y=0.01)
        return canvas.svg("rows of each class by split")


def training_page(outcome: Tree, task: str, model: str) -> str:
    """How the training went, by epoch, and what it cost."""
    curves: Sequence[Tree] = outcome.get("curves") or []
    names = [name for name in (curves[-1] if curves else {}) if name not in ("epoch", "step")]
    rows = [(f"{row['epoch']:.0f}", *(_figure(row.get(name)) for name in names)) for row in curves]
    figures = list(training_figures(curves, task).values())
    facts = [(name.replace("_", " "), _figure(value)) for name, value in outcome["metrics"].items()]
    sections = [Section("By epoch", ("Epoch", *(name.replace("_", " ") for name in names)), rows, figures)]
    return page(
        "Training",
        kicker=model,
        lead=f"{outcome['base'].get('name', 'The base model')}, in precision {outcome['precision']}.",
        verdict="reused" if outcome.get("reused") else "",
        tiles=[
            ("epochs", str(len(curves)), ""),
            ("time", f"{outcome.get('seconds', 0.0):.0f} s", "of the training and the export"),
            ("processor time", f"{outcome.get('cpu_seconds', 0.0):.0f} s", f"{outcome['threads']} threads"),
        ],
        sections=[*sections, Section("Figures", rows=facts), Section(rows=[("model digest", outcome["digest"])])],
    )


def search_page(outcome: Tree, model: str) -> str:
    """What a search has come to: the verdict, the change of params.yaml that follows from it, and every trial."""
    metric, best = str(outcome["metric"]), outcome["best"] or {}
    rows = [
        (str(one["number"]), one["state"], _figure(one["value"]), str(one["epochs"]),
         ", ".join(f"{name} {value:g}" for name, value in one["values"].items()))
        for one in outcome["trials"]
    ]  # fmt: skip
    return page(
        "Search",
        kicker=f"{model} · study {outcome['study']}",
        lead=outcome["verdict"],
        sections=[
            Section("The best values", rows=[(name, _figure(value)) for name, value in best.items()]),
            Section(
                "As a change of params.yaml, for `git apply`", rows=[(line,) for line in outcome["diff"].splitlines()]
            ),
            Section(f"{len(rows)} trials", ("Trial", "State", metric, "Epochs", "Values"), rows),
        ],
    )


def gate_page(decision: Tree, model: str) -> str:
    """The verdict, then every rule with its reason, what refused first."""
    rules = sorted(decision["rules"], key=lambda rule: rule["verdict"] == "pass")
    passed = decision["verdict"] == "pass"
    rows = [("✓" if one["verdict"] == "pass" else "✗", one["rule"].replace("_", " "), one["reason"]) for one in rules]
    held = sum(one["verdict"] == "pass" for one in rules)
    return page(
        "The candidate may become a version" if passed else "The candidate is refused",
        kicker=f"{model} · gate",
        verdict=decision["verdict"],
        good=passed,
        reasons=[] if passed else decision["reasons"],
        sections=[Section(f"{held} of {len(rules)} rules hold", ("", "Rule", "Reason"), rows)],
    )


def card_page(version: str, card: str, model: str, links: Sequence[tuple[str, str]]) -> str:
    """The model card of a registry version, and where else it stands."""
    from markdown_it import MarkdownIt

    # What the card quotes is data: HTML in it is shown, never run.
    text = MarkdownIt("commonmark", {"html": False}).enable("table").render(card)
    return page(
        f"Version {version}",
        kicker=f"{model} · model card",
        sections=[*([Section("Where it stands", links=links)] if links else []), Section(html=text)],
    )


def canary_page(version: str, outcome: Tree, model: str) -> str:
    """The verdict and its reasons, the share of traffic over time, and every decision of the judge."""
    word, good = ROLLOUTS[outcome["verdict"]]
    phases: Sequence[Tree] = outcome["phases"]
    decided = [one for one in phases if one.get("action") != "wait"] or phases
    began = phases[0].get("time", 0.0) if phases else 0.0
    rows = [
        (
            f"{one.get('time', began) - began:.0f} s",
            *(str(one.get(name, "")).replace("_", " ") for name in ("phase", "action")),
            "; ".join(map(str, one.get("reasons") or [one.get("reason", "")])),
        )
        for one in decided
    ]
    return page(
        f"Version {version} was {word}",
        kicker=f"{model} · canary",
        verdict=word,
        good=good,
        reasons=outcome["reasons"],
        tiles=[
            ("highest share", f"{outcome.get('share_seen', 0.0):.0%}", "of live traffic, when decided on"),
            ("looks", str(len(phases)), f"{len(decided)} decided something"),
        ],
        sections=[
            Section("Share of live traffic", figures=_share_figure(phases)),
            Section("Decisions of the judge", ("After", "Phase", "Action", "Why"), rows),
        ],
    )


def _share_figure(phases: Sequence[Tree]) -> list[str]:
    if not any(one.get("share") for one in phases):
        return []
    began = phases[0].get("time", 0.0)
    seconds, shares = [one.get("time", began) - began for one in phases], [one.get("share", 0.0) for one in phases]
    with Canvas(640, 220, scale=1.0) as canvas:
        canvas.axes.step(seconds, shares, where="post", color=CANDIDATE, linewidth=1.8)
        for second, share, one in zip(seconds, shares, phases, strict=True):
            if one.get("action") != "wait":
                canvas.dot(second, share, 5, CANDIDATE, f"after {second:.0f} s: {one.get('action')}")
        canvas.axes.set(xlabel="seconds", ylabel="share of the challenger", ylim=(0.0, max(0.1, *shares) * 1.15))
        canvas.grid(percent=True)
        return [canvas.svg("share of live traffic over time")]


def _figure(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value if value is not None else "")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 160 else f"{text[:159]}…"
