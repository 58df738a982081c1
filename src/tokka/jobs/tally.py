"""Jobs counted in the database that keeps them, in the transaction that changed them: whoever asks, and once each.

    add(connection, "helpdesk", "done", version="3", seconds=0.8)
    for tally in read(connection, "helpdesk"): ...

A counter in each consumer would forget with its process, and know nothing of the others.
"""

import bisect
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, select

from tokka.jobs.tables import insert, tallies

Event = Literal["accepted", "done", "failed", "given_up"]
BOUNDS = ("0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "30.0", "60.0", "300.0", "1800.0", "3600.0",
          "21600.0", "86400.0")  # fmt: skip
BEYOND = "+Inf"
NOBODY = "none"
_LIMITS = [float(bound) for bound in BOUNDS]


@dataclass(frozen=True)
class Tally:
    """How often something happened with answers of one version, of one duration (`bound`), and their seconds."""

    event: str
    version: str
    bound: str
    count: int
    seconds: float


def add(
    connection: Connection, endpoint: str, event: Event, *,
    version: str = NOBODY, seconds: float | None = None, count: int = 1,
) -> None:  # fmt: skip
    """Count what happened to jobs.

    Args:
        seconds: from a job's acceptance to its answer, for what has one.
    """
    key = {"endpoint": endpoint, "event": event, "version": version, "bound": bound_of(seconds)}
    took = seconds or 0.0
    more = {"count": tallies.c.count + count, "seconds": tallies.c.seconds + took}
    row = insert(connection, tallies).values(**key, count=count, seconds=took)
    connection.execute(row.on_conflict_do_update(index_elements=list(key), set_=more))


def read(connection: Connection, endpoint: str) -> list[Tally]:
    """Everything counted so far."""
    wanted = [tallies.c[name] for name in Tally.__dataclass_fields__]
    rows = connection.execute(select(*wanted).where(tallies.c.endpoint == endpoint)).mappings()
    return [Tally(**row) for row in rows]


def bound_of(seconds: float | None) -> str:
    """The bucket of a duration."""
    if seconds is None:
        return ""
    place = bisect.bisect_left(_LIMITS, seconds)
    return BOUNDS[place] if place < len(BOUNDS) else BEYOND
