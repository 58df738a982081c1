"""What the deployment record says: plain, frozen data that every projection is computed from."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

# idle: nothing rolls out. The others are the phases of one rollout, in this order; ab: an A/B test, which only a person
# or a failure ends.
Phase = Literal["idle", "verify", "warm_up", "shadow", "step", "watch", "ab"]


class Revision(BaseModel):
    """One registry version as it is served: its number, the digest of its model folder, and the snapshot of
    labelled feedback that it was trained with (a path; empty for none)."""

    model_config = ConfigDict(frozen=True)

    version: str
    digest: str
    snapshot: str = ""


class Driver(BaseModel):
    """A process that wrote the record: where its number means something, the number, and when it started there."""

    model_config = ConfigDict(frozen=True)

    place: str
    pid: int
    started: float


class State(BaseModel):
    """One endpoint's row. `share` is the challenger's part of live traffic, in [0, 1].

    `started` is when the rollout named in `rollout` began, `promoted` when its challenger became the champion,
    `updated` when this generation was written (seconds since 1970); `moment` and `promoted_moment` are the last two by
    the monotonic clock of the machine of `driver`, who wrote this generation.
    """

    model_config = ConfigDict(frozen=True)

    endpoint: str
    generation: int = 0
    champion: Revision | None = None
    challenger: Revision | None = None
    previous: Revision | None = None
    share: float = Field(default=0.0, ge=0.0, le=1.0)
    phase: Phase = "idle"
    rollout: str = ""
    reason: str = ""
    started: float = 0.0
    promoted: float = 0.0
    updated: float = 0.0
    moment: float = 0.0
    promoted_moment: float = 0.0
    driver: Driver | None = None

    @model_validator(mode="after")
    def _revisions_fit(self) -> "State":
        if self.share > 0 and (self.challenger is None or self.champion is None):
            raise ValueError("a share of traffic needs a champion and a challenger")
        if self.challenger and self.champion and self.challenger.version == self.champion.version:
            raise ValueError(f"version {self.challenger.version} cannot challenge itself")
        if (self.challenger is None) != (self.phase in ("idle", "watch")):
            raise ValueError(f"phase {self.phase!r} does not fit challenger {self.challenger!r}")
        return self
