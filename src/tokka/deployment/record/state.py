"""What the deployment record says: plain, frozen data that every projection is computed from."""

from typing import Literal, TypedDict

from pydantic import BaseModel, Field, model_validator

# idle: nothing rolls out. warm_up, shadow, step and watch: the phases of one rollout, in this order. ab: an A/B test,
# which follows its warm-up and is ended by a person or a proven failure.
Phase = Literal["idle", "warm_up", "shadow", "step", "watch", "ab"]


class Revision(BaseModel, frozen=True):
    """One registry version as it is served: its number, the digest of its model folder, and the snapshot of
    labelled feedback that it was trained with (a path; empty for none)."""

    version: str
    digest: str
    snapshot: str = ""


class Owner(BaseModel, frozen=True):
    """A process that wrote the record: where its number means something, the number, and when it started there."""

    place: str
    pid: int
    started: float


class State(BaseModel, frozen=True):
    """One endpoint's row. `share` is the challenger's part of live traffic, in [0, 1].

    `ab_share` is the share that `rollout` was asked to compare versions at; 0 when it is no A/B test. `started` is when
    that rollout began, `promoted` when its challenger became the champion, `updated` when this generation was written
    (seconds since 1970); `moment` and `promoted_moment` are the last two by the monotonic clock of the machine of
    `owner`, who wrote this generation.
    """

    endpoint: str
    generation: int = 0
    champion: Revision | None = None
    challenger: Revision | None = None
    previous: Revision | None = None
    share: float = Field(default=0.0, ge=0.0, le=1.0)
    ab_share: float = Field(default=0.0, ge=0.0, le=1.0)
    phase: Phase = "idle"
    rollout: str = ""
    reason: str = ""
    started: float = 0.0
    promoted: float = 0.0
    updated: float = 0.0
    moment: float = 0.0
    promoted_moment: float = 0.0
    owner: Owner | None = None

    @property
    def on_trial(self) -> Revision | None:
        """Who is judged: the challenger, or the champion when there is none."""
        return self.challenger or self.champion

    @model_validator(mode="after")
    def _revisions_fit(self) -> "State":
        if self.share > 0 and (self.challenger is None or self.champion is None):
            raise ValueError("a share of traffic needs a champion and a challenger")
        if self.challenger and self.champion and self.challenger.version == self.champion.version:
            raise ValueError(f"version {self.challenger.version} cannot challenge itself")
        if (self.challenger is None) != (self.phase in ("idle", "watch")):
            raise ValueError(f"phase {self.phase!r} does not fit challenger {self.challenger!r}")
        return self


class Changes(TypedDict, total=False):
    """What a compare-and-set may change of a `State`; every other field is the record's own to set."""

    champion: Revision | None
    challenger: Revision | None
    previous: Revision | None
    share: float
    ab_share: float
    phase: Phase
    rollout: str
    reason: str
    started: float


class Decision(TypedDict, total=False):
    """What was decided on a version and why, as it is written down.

    share: of traffic, when it was decided. values: e-values, their thresholds, counts. seconds: since the state
    that it was decided on was written. time: seconds since 1970.
    """

    version: str
    digest: str
    rollout: str
    generation: int
    phase: str
    share: float
    action: str
    topic: str
    reasons: list[str]
    values: dict[str, float]
    seconds: float
    time: float
