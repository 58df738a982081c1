"""canary: put an approved version in front of users by steps, each judged; promote it or roll it back."""

from pathlib import Path
from typing import Any

from tokka import files, progress
from tokka.params import Params
from tokka.settings import Settings

STEP = "canary"


def run(params: Params, settings: Settings, version: str, out: Path) -> dict[str, Any]:
    """Roll out on the local stack, starting it when needed; write canary.json and canary.md into `out`.

    Raises:
        TokkaError: nothing can serve (a taken port, a missing program).
    """
    from tokka.deployment.loop import run_rollout
    from tokka.deployment.record.record import Record
    from tokka.deployment.record.retrainings import FAILED, OUTCOMES, Attempts
    from tokka.deployment.rollout import Rollout, through_gateway
    from tokka.registry.mlflow_client import Registry
    from tokka.stack.local_target import LocalTarget
    from tokka.stack.stack import ensure_up

    with progress.step(STEP):
        ensure_up(settings, params)
        rollout = Rollout(
            version=version,
            registry=Registry(settings, params.registry.model),
            record=Record(settings.record_url),
            target=LocalTarget(settings, params),
            params=params,
            settings=settings,
            traffic=through_gateway(settings),
        )
        result = run_rollout(rollout)
        outcome = result.as_dict()
        files.write_json(out / "canary.json", outcome)
        files.write_text(out / "canary.md", as_markdown(version, outcome))
        Attempts(settings.record_url).finish(params.registry.model, OUTCOMES.get(result.verdict, FAILED))
        progress.result(STEP, **outcome)
        return outcome


def as_markdown(version: str, outcome: dict[str, Any]) -> str:
    """Verdict first, then its reasons, and where Evidently's view of both versions' answers will lie."""
    reasons = "\n".join(f"- {reason}" for reason in outcome["reasons"])
    page = f"# Canary of version {version}: {outcome['verdict']}\n\n{reasons}\n"
    rollouts = sorted({phase["rollout"] for phase in outcome["phases"] if phase.get("rollout")})
    views = "".join(f"- `rollouts/{name}/predictions.html` and `predictions_live.html`\n" for name in rollouts)
    return (
        f"{page}\nWhat both versions said, by Evidently, some seconds later in TOKKA_HOME:\n\n{views}"
        if views
        else page
    )
