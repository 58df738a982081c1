"""The archive of the request log, in S3 or another folder: what one machine logged is read by a pod that never saw it.

    requests/DAY-HOST-….v1.parquet                      a machine's segments, sealed there
    requests/ENDPOINT/VERSION/DAY-POD-….v1.jsonl        a predictor's segment, copied each time that it has grown
    requests/ENDPOINT/VERSION/DAY-POD-….v1.parquet      the same, sealed by the reconciler when it grows no more

As on a machine, a sealed segment is whole before its open form goes, and is read in its place. How long a machine's
stay is the bucket's own affair (a lifecycle rule); predictors' are deleted by `delete_old`.
"""

import logging
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

from tokka import objects
from tokka.errors import Missing, TokkaError
from tokka.objects import Listed
from tokka.request_log import log, parquet, segments
from tokka.settings import Settings

logger = logging.getLogger("tokka.request_log")

FOLDER = "requests"
OPEN, SEALED = f".v{segments.VERSION}.jsonl", f".v{segments.VERSION}.parquet"
# More than a sealed segment ever has: its open form ends at SEGMENT_BYTES and one batch.
LONGEST = 4 * segments.SEGMENT_BYTES
# A predictor's segment that was not copied for so long has ended by its age, and has been copied since.
IDLE_S = log.POD_SECONDS + 900.0
# By how much the clocks of storage and pods may differ.
SKEW_S = 600.0
TRIES = 3
_OF_PREDICTOR = re.compile(r"\d+/(\d{8}-[\w.-]+)")


class Segment(NamedTuple):
    """Where a segment lies in the archive, and how it is listed there."""

    address: str
    listed: Listed


def has_archive(settings: Settings) -> bool:
    """Whether the archive is another place than this home."""
    return objects.is_remote(settings.archive) or not Path(settings.archive).is_relative_to(settings.home)


def of_endpoint(settings: Settings, endpoint: str, version: str = "") -> str:
    """The address of the segments of an endpoint's predictors, or of one version's."""
    return objects.join(settings.archive, "/".join(filter(None, (FOLDER, endpoint, version))))


def send(settings: Settings, host: str) -> int:
    """Copy the sealed segments that the archive does not have; returns how many. `host` tells machines apart.

    Without an archive of its own a machine's log is archived where it lies. TokkaError when the archive is away.
    """
    if not has_archive(settings):
        return 0
    sealed = sorted((settings.home / FOLDER).glob(f"*{SEALED}"))
    base = objects.join(settings.archive, FOLDER)
    there = objects.listing(base, deep=False) if sealed else {}
    # A segment's name begins with its day; the process's number alone is not unique among machines.
    missing = {f"{path.name[:8]}-{host}{path.name[8:]}": path for path in sealed}
    missing = {name: path for name, path in missing.items() if name not in there}
    for name, path in missing.items():
        objects.write(path, objects.join(base, name))
    return len(missing)


def requests(settings: Settings, since: float, endpoint: str) -> Path:
    """The folder of the request log: this machine's own, or in a pod the archive's segments from the day of `since` on.

    Those that were copied before, and have not changed, are not copied again. TokkaError when the archive does not
    answer.
    """
    if not settings.in_pod:
        return settings.home / FOLDER
    folder = settings.home / "archived" / endpoint
    for last in (False,) * (TRIES - 1) + (True,):
        try:
            _bring(_wanted(settings, since, endpoint), folder)
            break
        except Missing:
            # Sealed since it was listed.
            if last:
                raise
    return folder


def seal_idle(settings: Settings, endpoint: str, now: float) -> int:
    """Make Parquet of the predictors' segments that grow no more; returns how many. TokkaError when S3 is away.

    Killed anywhere, it does the same again: the sealed form has the name of the open one, and all of its records.
    """
    base, sealed = of_endpoint(settings, endpoint), 0
    idle = {name: one for name, one in objects.listing(base).items() if now - one.written > IDLE_S}
    for name in sorted(name for name in idle if name.endswith(OPEN) and _OF_PREDICTOR.fullmatch(name)):
        try:
            sealed += _seal(settings, objects.join(base, name), idle[name])
        except TokkaError as error:
            # One that cannot be read keeps none of the others.
            logger.warning("%s is not sealed: %s", name, error.message)
    return sealed


def delete_old(settings: Settings, endpoint: str, oldest: float, most: float) -> int:
    """Delete what predictors logged and was sealed before a moment, and the oldest beyond so many bytes; how many."""
    base = of_endpoint(settings, endpoint)
    found = sorted(
        (one.written, name, one.size) for name, one in objects.listing(base).items() if name.endswith(SEALED)
    )
    total, deleted = sum(size for _, _, size in found), 0
    for written, name, size in found:
        if written >= oldest and total <= most:
            break
        objects.delete(objects.join(base, name))
        total, deleted = total - size, deleted + 1
    return deleted


def _seal(settings: Settings, address: str, listed: Listed) -> bool:
    settings.home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.home, prefix=".seal-") as scratch:
        folder, name = Path(scratch), address.rpartition("/")[2].removesuffix(OPEN)
        objects.read(address, segments.open_path(folder, name), LONGEST)
        parquet.seal(folder, name)
        sealed = segments.sealed_path(folder, name)
        if sealed.exists():
            objects.write(sealed, address.removesuffix(OPEN) + SEALED)
    base, _, last = address.rpartition("/")
    # What came late stays, and is sealed anew: the same records and more.
    if objects.listing(base).get(last) == listed:
        objects.delete(address)
    return True


def _wanted(settings: Settings, since: float, endpoint: str) -> dict[str, Segment]:
    """The archive's segments that may hold records from a moment on, by their names without a folder."""
    first, base, own = segments.day_of(since), objects.join(settings.archive, FOLDER), of_endpoint(settings, endpoint)
    found = {name: Segment(objects.join(base, name), one) for name, one in objects.listing(base, deep=False).items()}
    found = {name: one for name, one in found.items() if name.endswith(SEALED)}
    for name, one in objects.listing(own).items():
        # A segment was copied after its newest record; a name of another form may lead out of the folder.
        if one.written >= since - SKEW_S and (named := _OF_PREDICTOR.fullmatch(name)) and name.endswith((OPEN, SEALED)):
            found[named[1]] = Segment(objects.join(own, name), one)
    return {name: one for name, one in found.items() if name >= first}


def _bring(wanted: dict[str, Segment], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, one in wanted.items():
        path = folder / name
        if not path.exists() or path.stat().st_size != one.listed.size:
            objects.read(one.address, path, LONGEST)
    for path in folder.iterdir():
        if path.name not in wanted:
            path.unlink()
