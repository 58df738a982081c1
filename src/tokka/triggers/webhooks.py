"""Webhooks of GitHub, GitLab and Gitea: whether one is authentic, and the push that it tells. Pure functions.

| Host   | Authentic by                                              | Delivery          | Push by        |
|--------|-----------------------------------------------------------|-------------------|----------------|
| GitHub | X-Hub-Signature-256: sha256=HMAC of the body              | X-GitHub-Delivery | X-GitHub-Event |
| Gitea  | X-Gitea-Signature: HMAC of the body                       | X-Gitea-Delivery  | X-Gitea-Event  |
| GitLab | webhook-signature: v1,HMAC of id.time.body (a new signing | webhook-id        | X-Gitlab-Event |
|        | token; https://www.standardwebhooks.com), or              |                   |                |
|        | X-Gitlab-Token: the secret itself, which signs nothing    | X-Gitlab-Event-UUID |              |

https://docs.github.com/webhooks, https://docs.gitea.com/usage/webhooks, https://docs.gitlab.com/user/project/integrations
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tokka.sections_serving import Repository
from tokka.triggers.decision import HEADS, Push, allows
from tokka.triggers.git import NOBODY, is_commit

MINIMUM_SECRET = 16
STANDARD = "whsec_"
# An id that is longer is none of a host's.
LONGEST_ID = 200


class Unauthorised(Exception):
    """Not signed by a secret of ours, or too long ago; nothing more is told."""


class Unusable(Exception):
    """Authentic, and not to be acted upon; says why."""


class Delivery(NamedTuple):
    """An authentic webhook: its host, the ids by which the same one is known again, its event."""

    host: str
    ids: tuple[str, ...]
    event: str


def authenticate(
    headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes], *, now: float, window_s: float
) -> Delivery:
    """The delivery that these headers (names in lower case) and this raw body are; Unauthorised when they are none.

    `secrets`: all that hold now, of which one is enough; `now` in seconds since 1970.
    """
    if "x-gitea-signature" in headers:
        # Gitea sends GitHub's headers as well.
        given, host, delivery = headers["x-gitea-signature"], "gitea", headers.get("x-gitea-delivery", "")
    elif "x-hub-signature-256" in headers:
        given, host, delivery = headers["x-hub-signature-256"], "github", headers.get("x-github-delivery", "")
        if not given.startswith("sha256="):
            raise Unauthorised
        given = given.removeprefix("sha256=")
    else:
        return _gitlab(headers, body, secrets, now, window_s)
    if not _any(given, (hmac.new(secret, body, hashlib.sha256).hexdigest() for secret in secrets)):
        raise Unauthorised
    event = headers.get(f"x-{host}-event", "")
    # The id is not signed: what is signed is known again as well.
    return Delivery(host, _ids(host, delivery, body), event)


def push(delivery: Delivery, body: bytes, known: Mapping[str, Repository]) -> Push:
    """The push that an authentic body tells; Unusable when it tells none of a known repository's branch."""
    if delivery.event not in ("push", "Push Hook"):
        raise Unusable(f"only pushes are acted upon, and this is {delivery.event!r}"[:LONGEST_ID])
    try:
        told = json.loads(body)
        project = (
            told["project"]["path_with_namespace"] if delivery.host == "gitlab" else told["repository"]["full_name"]
        )
        ref, before, after = str(told["ref"]), str(told["before"]), str(told["after"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Unusable("the body is no push: it needs repository, ref, before and after as JSON") from None
    repository = known.get(str(project))
    if repository is None:
        raise Unusable("the repository is none of triggers.repositories")
    if not ref.startswith(HEADS) or len(ref) > LONGEST_ID or not allows(repository, ref):
        raise Unusable("the ref is none of the repository's branches that may start a run")
    if not (is_commit(after) or NOBODY.fullmatch(after)) or not (is_commit(before) or NOBODY.fullmatch(before)):
        raise Unusable("before and after are to be commits")
    before = "" if NOBODY.fullmatch(before) else before
    return Push(repository=repository.name, ref=ref, before=before, after=after, source="webhook")


def _gitlab(
    headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes], now: float, window_s: float
) -> Delivery:  # fmt: skip
    event = headers.get("x-gitlab-event", "")
    if "webhook-signature" in headers:
        name, moment = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        if not name or not moment.isascii() or not moment.isdigit() or abs(now - int(moment)) > window_s:
            raise Unauthorised
        signed = b".".join([name.encode(), moment.encode(), body])
        wanted = (base64.b64encode(hmac.new(_key(one), signed, hashlib.sha256).digest()).decode() for one in secrets)
        found = [f"v1,{digest}" for digest in wanted]
        if not sum(_any(given, found) for given in headers["webhook-signature"].split(" ")):
            raise Unauthorised
        return Delivery("gitlab", (f"gitlab:{name}"[:LONGEST_ID],), event)
    if not _any(headers.get("x-gitlab-token", ""), (one.decode("latin-1") for one in secrets)):
        raise Unauthorised
    return Delivery("gitlab", _ids("gitlab", headers.get("x-gitlab-event-uuid", ""), body), event)


def _key(secret: bytes) -> bytes:
    """The key of a signing token: what stands after whsec_ is base64."""
    if not secret.startswith(STANDARD.encode()):
        return secret
    try:
        return base64.b64decode(secret.removeprefix(STANDARD.encode()), validate=True)
    except binascii.Error:
        return secret


def _any(given: str, wanted: Iterable[str]) -> bool:
    """Whether a text is one of those wanted; takes as long whichever it is."""
    sent = given.encode("utf-8", "replace")
    # All are compared, where `any` would stop at the first.
    return sum(hmac.compare_digest(sent, one.encode("latin-1")) for one in wanted) > 0


def _ids(host: str, delivery: str, body: bytes) -> tuple[str, ...]:
    content = f"{host}:body:{hashlib.sha256(body).hexdigest()}"
    return (*([f"{host}:{delivery}"[:LONGEST_ID]] if delivery else []), content)
