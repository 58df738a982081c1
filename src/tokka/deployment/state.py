"""What the deployment record says: plain, frozen data that every projection is computed from."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

# idle: nothing rolls out. The others are the phases of one rollout, in this order.
Phase = Literal["idle", "verify", "warm_up", "shadow", "step", "watch"]


class Revision(BaseModel):
    """One registry version as it is served: its number and the digest of its model folder."""

    model_config = ConfigDict(frozen=True)

    version: str
    digest: str


class State(BaseModel):
    """One endpoint's row. `share` is the challenger's part of live traffic, in [0, 1]."""

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
    updated: float = 0.0
