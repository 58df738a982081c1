"""What happened, as plain data: its id, its text for people, and as a CloudEvent for programs. Nothing here is sent."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from tokka import files
from tokka.errors import redacted
from tokka.files import JsonObject
from tokka.sections_serving import Kind

Told = Kind | Literal["test"]
LONGEST_REASON, SHOWN_REASONS = 1000, 12
TITLES: dict[Told, str] = {
    "not_retrained": "pushed, and not retrained",
    "retraining_started": "a retraining has started",
    "refused": "refused",
    "drift_confirmed": "drift is confirmed",
    "waiting_for_review": "waiting for a review",
    "canary_step": "a canary step",
    "rolled_back": "rolled back",
    "promoted": "promoted",
    "held": "held: nothing was changed",
    "dead_letters": "jobs are given up",
    "test": "a test",
}
# What it needs from whom, unless the event itself says so.
NEEDS: dict[Told, str] = {
    "not_retrained": "nothing, if that was meant; else whoever pushed starts one with `tokka run`",
    "retraining_started": "nothing",
    "refused": "whoever offered it reads the reasons and mends what they name; the champion keeps serving",
    "drift_confirmed": "nothing while a retraining follows; else the owner of the data, who reads why none does",
    "waiting_for_review": "a reviewer: `tokka review show`, then `tokka review approve` or `tokka review refuse`",
    "canary_step": "nothing: the judge goes on",
    "rolled_back": "whoever offered the version reads the reasons; the previous champion serves",
    "promoted": "nothing; `tokka rollback` puts the previous champion back",
    "held": "an operator reads the reason; the champion keeps serving",
    "dead_letters": "an operator: look at the dead-letter queue, and send again what may be answered",
    "test": "nothing",
}


@dataclass(frozen=True)
class Event:
    """One thing that happened; those of the same kind, endpoint and subject are one.

    Args:
        subject: what makes it this one and no other: a run's key, a version, a rollout with its generation.
        what: one sentence. why: the reasons. needs: what is needed from whom; empty: what its kind always needs.
        version, run_id: the registry version and the MLflow run whose pages are linked.
        links: further pages, as (title, URL or path). details: plain data for programs.
    """

    kind: Told
    endpoint: str
    subject: str
    what: str
    why: Sequence[str] = ()
    needs: str = ""
    version: str = ""
    run_id: str = ""
    links: Sequence[tuple[str, str]] = ()
    details: Mapping[str, object] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The same for the same thing, whoever tells it and how often."""
        return files.digest_json([self.kind, self.endpoint, self.subject])[:32]

    def as_json(self) -> str:
        """What the outbox keeps, without passwords of URLs."""
        tree = {**asdict(self), "why": [redacted(reason)[:LONGEST_REASON] for reason in self.why]}
        return json.dumps({**tree, "what": redacted(self.what)[:LONGEST_REASON]}, ensure_ascii=False, allow_nan=False)


class Message(NamedTuple):
    """An event as it is sent: its id and time (seconds since 1970), and all links."""

    id: str
    time: float
    event: Event
    links: tuple[tuple[str, str], ...]

    @property
    def title(self) -> str:
        """One line: the endpoint, what happened, and to which version."""
        version = f", version {self.event.version}" if self.event.version else ""
        return f"{self.event.endpoint}{version}: {TITLES[self.event.kind]}"

    @property
    def needs(self) -> str:
        """What is needed from whom."""
        return self.event.needs or NEEDS[self.event.kind]

    @property
    def when(self) -> str:
        """The time as RFC 3339, in UTC."""
        return datetime.fromtimestamp(self.time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def text(self) -> str:
        """The body for people, who may get it twice when a sender was killed at the wrong moment: its id tells."""
        why = [f"- {reason}" for reason in self.event.why[:SHOWN_REASONS]]
        more = len(self.event.why) - SHOWN_REASONS
        parts = [self.event.what, *(["", "Why:", *why] if why else []), *([f"- and {more} more"] if more > 0 else [])]
        links = [f"{title}: {url}" for title, url in self.links]
        return "\n".join([*parts, "", f"Needed: {self.needs}", *links, "", f"{self.when}, id {self.id}"])

    def cloud_event(self) -> JsonObject:
        """The same as a CloudEvent 1.0 in its JSON format (https://github.com/cloudevents/spec, v1.0.2)."""
        event = self.event
        data = {
            "title": self.title, "what": event.what, "why": list(event.why), "needs": self.needs,
            "version": event.version, "run_id": event.run_id, "links": dict(self.links), **event.details,
        }  # fmt: skip
        return {
            "specversion": "1.0", "id": self.id, "source": f"/tokka/{event.endpoint}", "type": f"tokka.{event.kind}",
            "subject": event.subject, "time": self.when, "datacontenttype": "application/json", "data": data,
        }  # fmt: skip


def message(name: str, time: float, content: str, page: str = "") -> Message:
    """An event out of the outbox, with links to the pages of MLflow at the URL `page` (none without one)."""
    event = Event(**json.loads(content))
    base = _without_user(page)
    found = [("Version", f"{base}/#/models/{event.endpoint}/versions/{event.version}")] if event.version else []
    found += [("Report", f"{base}/#/runs/{event.run_id}")] if event.run_id else []
    own = [(str(title), str(url)) for title, url in event.links]
    return Message(name, time, event, (*(found if base else ()), *own))


def test_message(endpoint: str, page: str, now: float) -> Message:
    """A message that says nothing but that it has arrived."""
    what = "This is a test: whoever reads it will be told what happens to this endpoint."
    event = Event("test", endpoint, f"{now}", what, links=[("MLflow", _without_user(page))])
    return Message(event.id, now, event, tuple(event.links))


def _without_user(url: str) -> str:
    """A page's address, for whoever opens it with a name of their own."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/") if parts.netloc else ""
