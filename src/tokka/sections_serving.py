"""Sections of params.yaml around an experiment: the endpoint, who may ask it, jobs over a broker, who is told, which
pushes retrain; and what comes after it: the rollout, the watch over drift, the next training.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from tokka.sections import Count, NonNegative, Open01, Positive, Section


class Asynchronous(Section):
    """Jobs over a broker: RabbitMQ (amqp://, amqps://) or Kafka (kafka://)."""

    # None: off. A URL with a password belongs into the environment (TOKKA_BROKER), which also wins.
    broker: str | None = None
    concurrent: Annotated[int, Field(ge=1, le=1024)] = 16
    tries: Annotated[int, Field(ge=1, le=15)] = 3
    result_days: Positive = 7.0
    # A job without an answer for so long is failed: its message is lost, or nothing served all the time.
    give_up_hours: Positive = 24.0

    @field_validator("broker")
    @classmethod
    def _holds_no_password(cls, broker: str | None) -> str | None:
        if broker is not None and "@" in broker:
            raise ValueError("broker must hold no user or password here: set TOKKA_BROKER instead")
        return broker


def _word_of_yaml(value: object) -> object:
    """YAML reads a bare on or off as true or false."""
    return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


class Jwt(Section):
    """Bearer tokens of an OAuth2 issuer: RS256 or ES256, with exp, iat, aud and iss; without jwks_url, none."""

    issuer: str | None = None
    audience: str | None = None
    jwks_url: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> "Jwt":
        if len({self.issuer is None, self.audience is None, self.jwks_url is None}) > 1:
            raise ValueError("issuer, audience and jwks_url go together")
        if self.jwks_url is not None and not re.match(r"https://|http://(127\.0\.0\.1|localhost)[:/]", self.jwks_url):
            raise ValueError("jwks_url must be https (http on 127.0.0.1 alone): whoever alters it decides who may ask")
        return self


class Deployment(Section):
    """Where a version is rolled out to: the stack of this machine, or KServe; auto: KServe in a pod, else the stack."""

    target: Literal["auto", "local", "kserve"] = "auto"
    # KServe: the champion grows by its load from `serving.workers` to so many pods; no growth below that.
    maximum_pods: Annotated[int, Field(ge=1, le=1000)] = 8
    # KServe: so long a version whose share is 0 keeps its pods, for what is still under way; longer than any answer.
    drain_s: Positive = 30.0


class Serving(Section):
    """The endpoint and its limits."""

    workers: Annotated[int, Field(ge=1, le=64)] = 2
    batch: Annotated[int, Field(ge=1, le=512)] = 16
    max_delay_ms: NonNegative = 2.0
    max_body_bytes: Count = 1_000_000
    max_rows: Count = 256
    max_tokens: Count = 16_384
    max_wait_ms: Count = 20
    # A class's answer whose calibrated confidence is lower is marked as unsure; 0: none is.
    threshold: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    asynchronous: Asynchronous = Asynchronous()
    authentication: Annotated[Literal["auto", "on", "off"], BeforeValidator(_word_of_yaml)] = "auto"
    jwt: Jwt = Jwt()
    rate_per_second: Annotated[int, Field(ge=0)] = 0

    @property
    def to_workers(self) -> dict[str, Any]:
        """What a worker is told of it, on a laptop and in a pod, by the names of its options."""
        names = {"batch", "max_delay_ms", "max_body_bytes", "max_rows", "max_tokens", "threshold"}
        return self.model_dump(include=names)


# What somebody can be told of; the texts are in notifications/events.py.
Kind = Literal[
    "not_retrained",
    "retraining_started",
    "refused",
    "drift_confirmed",
    "waiting_for_review",
    "canary_step",
    "rolled_back",
    "promoted",
    "held",
    "dead_letters",
]


class Receiver(Section):
    """Somebody who is told, by a name; the URL under this name is a secret, and not here."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    # apprise: chat, mail and whatever else it speaks. cloudevents: HTTP POST to a program.
    protocol: Literal["apprise", "cloudevents"] = "apprise"
    # How a CloudEvent is put into the request.
    mode: Literal["structured", "binary"] = "structured"
    # None named: of everything.
    events: tuple[Kind, ...] = ()

    def wants(self, kind: str) -> bool:
        """Whether it is told of this kind."""
        return not self.events or kind in self.events


class Notifications(Section):
    """Who is told of what, and for how long a receiver that is away is tried again."""

    receivers: tuple[Receiver, ...] = ()
    give_up_days: Positive = 7.0

    @model_validator(mode="after")
    def _names_are_different(self) -> "Notifications":
        names = [one.name for one in self.receivers]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"receivers names {', '.join(map(repr, twice))} more than once; give each its own name")
        return self


class Repository(Section):
    """A repository whose pushes may start a retraining, and the branches of it that do."""

    # As the host's webhooks call it, such as team/helpdesk.
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*(/[\w.-]+)*$")]
    # What is fetched, whatever a webhook says: a URL, or the path of a repository on this machine.
    url: Annotated[str, Field(pattern=r"^[^-\s]\S*$")]
    # The project's folder in it, in which params.yaml is; empty for its root.
    folder: Annotated[str, Field(pattern=r"^([\w][\w.-]*(/[\w][\w.-]*)*)?$")] = ""
    branches: Annotated[tuple[str, ...], Field(min_length=1)] = ("main", "master")
    # Where commit statuses go; the token is in `token_variable`, or in the file that `token_variable`_FILE names.
    host: Literal["none", "github", "gitlab", "gitea"] = "none"
    api: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = None
    token_variable: str = "TOKKA_GIT_TOKEN"

    @field_validator("url")
    @classmethod
    def _holds_no_password(cls, url: str) -> str:
        if re.match(r"https?://[^/]*@", url):
            raise ValueError("url must hold no user or password: git asks its credential helper")
        if re.match(r"[A-Za-z0-9]+::", url):
            raise ValueError("url must be https, ssh, git, file, or a path: a remote helper could run a command")
        return url

    @model_validator(mode="after")
    def _a_host_has_an_address(self) -> "Repository":
        if self.host != "none" and self.api is None:
            raise ValueError(f"host = {self.host!r} needs api, such as https://api.github.com")
        return self


class Triggers(Section):
    """Which pushes start a retraining, and where it runs; without repositories it is the project's own."""

    start: Literal["run", "submit"] = "run"
    pipeline: Literal["retrain", "specialise"] = "retrain"
    repositories: tuple[Repository, ...] = ()
    # What counts as training code: patterns of paths in the repository, in which * stands for folders as well.
    code: tuple[str, ...] = (
        "src/tokka/data/*.py", "src/tokka/model/*.py", "src/tokka/training/*.py", "src/tokka/evaluation/*.py",
        "src/tokka/steps/*.py", "components/*.py", "pipelines/*.py",
    )  # fmt: skip
    worker: Literal["stack", "separate"] = "separate"
    poll_s: Annotated[float, Field(ge=1.0)] = 60.0
    tries: Annotated[int, Field(ge=1, le=20)] = 3
    port: Annotated[int, Field(ge=1024, le=65535)] = 8095
    max_body_bytes: Count = 5_000_000
    # How old a webhook with a signed time may be.
    window_s: Positive = 300.0

    @field_validator("repositories")
    @classmethod
    def _each_is_named_once(cls, repositories: tuple[Repository, ...]) -> tuple[Repository, ...]:
        names = [one.name for one in repositories]
        if len(set(names)) < len(names):
            raise ValueError("repositories name one more than once: give each a name of its own")
        return repositories


class Canary(Section):
    """The rollout: shadow first, then shares of live traffic, each judged."""

    shadow_rows: Annotated[int, Field(ge=10)] = 300
    steps: tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...] = (0.05, 0.25, 0.5)
    step_requests: Count = 100
    quality_margin: Open01 = 0.03
    slow_ms: Positive = 250.0
    # Before a promotion it must be proven on live requests that failures, and slow answers, are less than this more
    # frequent than on the champion; 1 asks for no proof.
    error_margin: Annotated[float, Field(gt=0.0, le=1.0)] = 0.02
    slow_margin: Annotated[float, Field(gt=0.0, le=1.0)] = 0.02
    alpha: Open01 = 0.05
    warm_up_s: Positive = 120.0
    lost_s: Positive = 30.0  # how long a challenger may be without a ready worker before it counts as lost
    minimum_wait_s: NonNegative = 1.0
    maximum_wait_s: Positive = 1800.0
    watch_s: NonNegative = 60.0
    replay: bool = True

    @field_validator("steps")
    @classmethod
    def _in_steps_of_the_gateway(cls, steps: tuple[float, ...]) -> tuple[float, ...]:
        """The gateway splits in hundredths of a percent; at all traffic nothing is left to compare with."""
        return tuple(min(0.9999, max(0.0001, round(step, 4))) for step in steps)

    @model_validator(mode="after")
    def _steps_rise(self) -> "Canary":
        if not self.steps or list(self.steps) != sorted(set(self.steps)):
            raise ValueError("steps must be rising shares of traffic, such as [0.05, 0.25, 0.5]")
        return self


class Monitoring(Section):
    """Windows of the request log, and when one counts as drifted."""

    window_rows: Annotated[int, Field(ge=20)] = 250
    alpha: Open01 = 0.002
    drifted_windows: Count = 2
    of_windows: Count = 3
    store_text: bool = True
    retention_days: Positive = 90.0
    retention_gb: Positive = 20.0

    @model_validator(mode="after")
    def _hysteresis_is_possible(self) -> "Monitoring":
        if self.drifted_windows > self.of_windows:
            raise ValueError("drifted_windows must be at most of_windows")
        return self


class Retraining(Section):
    """When drift may start a training: never without labels, never too often."""

    minimum_labels: Count = 200
    cool_down_hours: NonNegative = 24.0
    per_week: Count = 3
    maximum_refused: Count = 2


class Review(Section):
    """Whose approval counts where `registry.review` is required.

    trust: signed: a review is one by `tokka review approve|refuse`, signed with the key of an approver; a tag in MLflow
    is a request that is shown. open: whoever may write a tag in MLflow approves. approvers: name to public key, beside
    the files in TOKKA_HOME/keys/approvers; the word `mlflow` for a key: who has this name in MLflow, whose server signs
    that they set the tag (the key of `mlflow-server`). four_eyes: the author of a run does not approve it.
    """

    trust: Literal["signed", "open"] = "signed"
    approvers: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")], str] = {}
    four_eyes: bool = False
    expires_hours: Positive | None = None

    @model_validator(mode="after")
    def _a_tag_has_no_author(self) -> "Review":
        if self.four_eyes and self.trust == "open":
            raise ValueError("four_eyes needs trust: signed, since MLflow does not say who set a tag")
        return self
