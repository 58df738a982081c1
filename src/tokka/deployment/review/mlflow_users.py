"""Who decided in MLflow's own page: a server with basic authentication signs the name of whoever set the tag or alias.

    # the file that MLFLOW_AUTH_CONFIG_PATH names, for `mlflow server --app-name basic-auth`
    [mlflow]
    authorization_function = tokka.deployment.review.mlflow_users:authenticate

It is MLflow's own check of name and password. What MLflow then has carried out is signed with the key of this server
(TOKKA_HOME/keys/reviewers/mlflow-server.key there) and kept as the version's tag `tokka.decided_by`, which others can
copy or delete and not make. Whose decision counts is said by `review.approvers`.
"""

import logging
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

from tokka.deployment.review import signatures
from tokka.deployment.review.admission import ALIAS
from tokka.deployment.review.signatures import Decided
from tokka.registry import entities
from tokka.settings import Settings

logger = logging.getLogger("tokka.review")

SET_TAG, SET_ALIAS = "/mlflow/model-versions/set-tag", "/mlflow/registered-models/alias"
WORDS = ("approved", "refused")
OK = 200
# MLflow keeps 5000 characters of a tag.
LONGEST_COMMENT = 1000


class Asked(NamedTuple):
    """What a request decides: on which version of which model, and how."""

    model: str
    version: str
    verdict: Literal["approved", "refused"]


def authenticate() -> Any:
    """MLflow's own answer to who asks; a decision of theirs is signed once MLflow has carried it out."""
    from flask import after_this_request, g, request
    from mlflow.server.auth import authenticate_request_basic_auth

    found = authenticate_request_basic_auth()
    # Other bodies are not ours to read: a model that is uploaded is one of them.
    if request.method != "POST" or not request.path.endswith((SET_TAG, SET_ALIAS)):
        return found
    user, decision = getattr(found, "username", None), asked(request.path, request.get_json(force=True, silent=True))
    # MLflow asks several times for one request.
    if user and decision and not g.get("tokka_decided"):
        g.tokka_decided = True
        after_this_request(partial(_sign, str(user), decision))
    return found


def asked(path: str, body: object) -> Asked | None:
    """The decision that a request to MLflow's API makes, if any."""
    if not isinstance(body, Mapping):
        return None
    model, version = str(body.get("name", "")), str(body.get("version", ""))
    if path.endswith(SET_ALIAS):
        return Asked(model, version, "approved") if body.get("alias") == ALIAS else None
    word = str(body.get("value", "")).strip().lower()
    if not path.endswith(SET_TAG) or body.get("key") != entities.REVIEW:
        return None
    return Asked(model, version, "approved" if word == "approved" else "refused") if word in WORDS else None


def _sign(user: str, decision: Asked, answer: Any) -> Any:
    """Keep who decided, and give MLflow's answer back, whatever happens: without it the tag is a request."""
    try:
        if answer.status_code == OK:
            _keep(user, decision)
    except Exception as error:
        logger.warning(f"who decided on version {decision.version} is not signed: {type(error).__name__}: {error}")
    return answer


def _keep(user: str, decision: Asked) -> None:
    from mlflow.entities.model_registry import ModelVersionTag
    from mlflow.server.handlers import _get_model_registry_store

    store = _get_model_registry_store()
    tags = store.get_model_version(decision.model, decision.version).tags
    comment = str(tags.get(entities.REVIEW_COMMENT, ""))[:LONGEST_COMMENT]
    decided = Decided(
        **decision._asdict(), user=user, comment=comment, time=time.time(),
        model_digest=str(tags.get(entities.MODEL_DIGEST, "")),
    )  # fmt: skip
    signed = signatures.sign_decided(decided, Settings.from_environment())
    store.set_model_version_tag(decision.model, decision.version, ModelVersionTag(entities.DECIDED_BY, signed))
