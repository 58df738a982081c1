"""rollout: from an MLflow run that passed the gate to a champion, or back."""

from kfp import dsl

from components.canary import canary
from components.register import register
from components.review import review


@dsl.pipeline(name="rollout", description="Register, review, and canary a candidate.")
def rollout(params: dict, run_id: str, override: str = ""):
    """Bring one evaluated candidate in front of users.

    1. register: the run becomes a signed registry version; a refused run only with a reason in `override`
    2. review: automatic, or by a person in the registry
    3. canary: shadow, then steps of live traffic, each judged; promote or roll back
    """
    version = register(params=params, run_id=run_id, override=override).set_caching_options(False)
    verdict = review(params=params, version=version.output).set_caching_options(False)
    with dsl.If(verdict.output == "approved", name="approved"):
        canary(params=params, version=version.output).set_caching_options(False)
