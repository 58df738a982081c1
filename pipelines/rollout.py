"""rollout: from an MLflow run that passed the gate to a champion, or back."""

from kfp import dsl

from components.canary import canary
from components.refuse import refuse
from components.register import register
from components.review import review as review_version
from pipelines.form import FORM, JOB
from pipelines.kubernetes import place


@dsl.pipeline(name="rollout", description="Register, review, and canary a candidate.")
def rollout(
    run_id: str = "",
    endpoint: str = FORM.endpoint,
    review: str = FORM.review,
    override: str = "",
    overrides: dict = {},  # noqa: B006
):
    """Bring one evaluated candidate in front of users.

    1. register: the run becomes a signed registry version; a refused run only with a reason in `override`
    2. review: automatic, or by a person in the registry
    3. canary: shadow, then steps of live traffic, each judged; promote or roll back

    Args:
        run_id: The MLflow run of the evaluated candidate.
        endpoint: Name of the endpoint and of its registered model.
        review: Whether a person has to approve the version.
        override: Why a candidate that the gate refused is rolled out all the same.
        overrides: Further values of params.yaml, by section.
    """
    version = place(
        register(endpoint=endpoint, review=review, overrides=overrides, run_id=run_id, override=override, job=JOB)
    )
    params, number = version.outputs["params"], version.outputs["Output"]
    verdict = place(review_version(params=params, version=number, job=JOB))
    with dsl.If(verdict.output == "refused", name="refused in review"):
        reasons = "a reviewer refused the version: the registry has the comment"
        place(refuse(by="review", reasons=reasons, job=JOB)).set_display_name("refused in review")
    with dsl.If(verdict.output == "approved", name="approved"):
        trial = place(canary(params=params, version=number, job=JOB))
        with dsl.If(trial.outputs["Output"] == "rolled_back", name="rolled back"):
            place(refuse(by="canary", reasons=trial.outputs["reasons"], job=JOB)).set_display_name("rolled back")
