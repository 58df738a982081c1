"""retrain: watch the traffic, and specialise again when the policy, git, a schedule or a person says so."""

from kfp import dsl

from components.detect_drift import detect_drift
from pipelines.specialise import specialise


@dsl.pipeline(name="retrain", description="Detect drift and retrain when the policy says so.")
def retrain(params: dict, cause: str = "drift", code_version: str = ""):
    """Close the loop.

    1. detect_drift: windows of the request log against the champion's held-out reference; the policy decides
    2. specialise, if a retraining is due; `cause` person, git or schedule makes it due
    """
    drift = detect_drift(params=params, cause=cause).set_caching_options(False)
    with dsl.If(drift.outputs["Output"] == "retrain", name="due"):
        run = specialise(params=params, snapshot=drift.outputs["snapshot"], code_version=code_version)
        run.set_caching_options(False)
