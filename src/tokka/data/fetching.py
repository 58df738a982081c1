"""Where raw data comes from, as a local file of bounded size: a path, http(s)://, s3://, hf:// or dvc://.

`hf://datasets/OWNER/NAME/FILE@REVISION` by huggingface_hub; `dvc://PATH@REVISION?repo=URL` by dvc.api, without a repo
from the project's own.
"""

import hashlib
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tokka import files, objects
from tokka.errors import TokkaError, UsageError
from tokka.params import Params
from tokka.sections import Data
from tokka.settings import Settings

BLOCK = 1 << 20
TIMEOUT_SECONDS = 30.0


def fetch(source: str, limits: Data, settings: Settings) -> Path:
    """The local file behind a source; a relative path counts from the project's root.

    Raises:
        UsageError: the source is blank or its scheme unknown.
        TokkaError: it cannot be reached, or has more than data.max_bytes.
    """
    if not source.strip():
        raise UsageError("data.source is empty", "name a file with --data, or make the sample: tokka sample")
    if "://" not in source:
        return settings.root / Path(source).expanduser()
    scheme, readers = source.partition("://")[0], {"http": _download, "https": _download, "hf": _hub, "dvc": _dvc}
    readers["s3"] = _object
    if scheme not in readers:
        hint = "use a path, http(s)://, s3://, hf:// or dvc://"
        raise UsageError(f"data.source {source!r}: unknown scheme {scheme!r}", hint)
    return readers[scheme](source, limits, settings)


def fetch_snapshot(snapshot: str, params: Params, settings: Settings) -> Path | None:
    """The local file of a snapshot of labelled feedback, by its path or its address; None for no snapshot."""
    return fetch(snapshot, params.data, settings) if snapshot else None


def source_digest(params: Params, settings: Settings, feedback: Path | None = None) -> str:
    """One sha256 over the bytes of everything that a run reads: source, test file, feedback, suite, practice."""
    data = params.data
    named = {"data.source": data.source, "data.validation": data.validation, "data.test": data.test}
    digests = [digest(fetch(name, data, settings), field) for field, name in named.items() if name is not None]
    digests.append(digest(settings.root / params.validation.suite, "validation.suite"))
    digests += [digest(feedback)] if feedback else []
    practice = params.adaptation.source if params.adaptation.method != "none" else None
    further = [{"adaptation": digest(fetch(practice, data, settings), "adaptation.source")}] if practice else []
    return files.digest_json([*digests, *further])


def digest(path: Path, field: str = "") -> str:
    """The sha256 of a file, which `field` of params.yaml names; TokkaError when there is none that can be read."""
    files.check_readable(path, field=field)
    return files.digest_file(path)


def _download(source: str, limits: Data, settings: Settings) -> Path:
    import httpx

    try:
        with httpx.stream("GET", source, follow_redirects=True, timeout=TIMEOUT_SECONDS) as answer:
            answer.raise_for_status()
            return _keep(source, answer.iter_bytes(BLOCK), limits, settings)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _unreachable(source, error, "check the address and the network") from None


def _object(source: str, limits: Data, settings: Settings) -> Path:
    """Copied once, and again when it has changed: a run asks for its data's digest in many places."""
    path, stamp = _place(source, settings), objects.stamp(source)
    mark = path.with_name(".stamp.json")
    is_known = stamp and path.is_file() and mark.is_file() and path.stat().st_size <= limits.max_bytes
    if is_known and files.read_json(mark) == [stamp, *_identity(path)]:
        return path
    _keep(source, objects.blocks(source), limits, settings)
    if stamp == objects.stamp(source):  # else it changed while it was read, and nobody knows which one it is
        files.write_json(mark, [stamp, *_identity(path)])
    return path


def _identity(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_ino, found.st_size, found.st_mtime_ns]


def _hub(source: str, limits: Data, settings: Settings) -> Path:
    match = re.fullmatch(r"hf://datasets/([^/@]+/[^/@]+)/([^@]+)@([^@/]+)", source)
    if not match:
        raise UsageError(f"data.source {source!r} names no pinned file", "hf://datasets/OWNER/NAME/FILE@REVISION")
    from huggingface_hub import hf_hub_download

    repository, name, revision = match.groups()
    cache = settings.home / "hub"
    try:
        return Path(hf_hub_download(repository, name, repo_type="dataset", revision=revision, cache_dir=cache))
    except Exception as error:
        # The hub client raises its own, httpx's and the operating system's errors.
        raise _unreachable(source, error, "check name and network") from None


def _dvc(source: str, limits: Data, settings: Settings) -> Path:
    import dvc.api
    from dvc.exceptions import DvcException

    address = urlsplit(source)
    name, _, revision = (address.netloc + address.path).partition("@")
    repository = parse_qs(address.query).get("repo", [str(settings.root)])[0]
    try:
        with dvc.api.open(name, repo=repository, rev=revision or None, mode="rb") as file:
            return _keep(source, iter(lambda: file.read(BLOCK), b""), limits, settings)
    except (DvcException, OSError) as error:
        raise _unreachable(source, error, "check path, revision and DVC remote") from None


def _unreachable(source: str, error: Exception, hint: str) -> TokkaError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return TokkaError(f"data.source {source} cannot be fetched: {reason}", hint)


def _keep(source: str, blocks: Iterable[bytes], limits: Data, settings: Settings) -> Path:
    path, size = _place(source, settings), 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".part-") as staging:
        part = Path(staging) / path.name
        with part.open("wb") as file:
            for block in blocks:
                size += file.write(block)
                if size > limits.max_bytes:
                    most = f"data.max_bytes = {limits.max_bytes:,} bytes"
                    raise TokkaError(f"data.source {source} has more than {most}", "use a smaller file")
        return part.replace(path)


def _place(source: str, settings: Settings) -> Path:
    """Where the copy of a remote source lies."""
    name = Path(re.split("[?@]", source.rstrip("/"))[0]).name
    return settings.home / "downloads" / hashlib.sha256(source.encode()).hexdigest()[:16] / name
