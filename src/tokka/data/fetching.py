"""Where raw data comes from: a path, http(s)://, hf:// or dvc://, as a local file of bounded size.

path = fetch("data/messages.csv", params.data, settings)
fetch("hf://datasets/owner/name/train.csv@<revision>", …)     # huggingface_hub
fetch("dvc://data/messages.csv@v1.2?repo=https://…", …)       # dvc.api; without a repo: the project's own
"""

import hashlib
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tokka import files
from tokka.errors import TokkaError, UsageError
from tokka.params import Data, Params
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
    scheme = source.partition("://")[0] if "://" in source else ""
    readers = {"": _local, "http": _download, "https": _download, "hf": _hub, "dvc": _dvc}
    if scheme not in readers:
        hint = "use a path, http(s)://, hf:// or dvc://"
        raise UsageError(f"data.source {source!r}: unknown scheme {scheme!r}", hint)
    return readers[scheme](source, limits, settings)


def source_digest(params: Params, settings: Settings, feedback: Path | None = None) -> str:
    """One sha256 over the bytes of everything that a run reads: source, test file, feedback, suite, practice.

    Raises:
        TokkaError: one of them cannot be read.
    """
    named = [params.data.source, *([params.data.test] if params.data.test else [])]
    paths = [fetch(name, params.data, settings) for name in named]
    paths += [settings.root / params.validation.suite, *([feedback] if feedback else [])]
    practice = params.adaptation.source if params.adaptation.method != "none" else None
    further = [{"adaptation": digest(fetch(practice, params.data, settings))}] if practice else []
    return files.digest_json([*(digest(path) for path in paths), *further])


def digest(path: Path) -> str:
    """The sha256 of a file that must exist.

    Raises:
        TokkaError: it does not.
    """
    if not path.is_file():
        raise TokkaError(f"{path} does not exist" if not path.exists() else f"{path} is no file", "check the path")
    return files.digest_file(path)


def _local(source: str, limits: Data, settings: Settings) -> Path:
    return settings.root / Path(source).expanduser()


def _download(source: str, limits: Data, settings: Settings) -> Path:
    import httpx

    try:
        with httpx.stream("GET", source, follow_redirects=True, timeout=TIMEOUT_SECONDS) as answer:
            answer.raise_for_status()
            return _keep(source, answer.iter_bytes(BLOCK), limits, settings)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _unreachable(source, error, "check the address and the network") from None


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
    """Write a stream into the downloads folder, under its own name, and stop at data.max_bytes."""
    name = Path(re.split("[?@]", source.rstrip("/"))[0]).name
    folder = settings.home / "downloads" / hashlib.sha256(source.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as staging:
        part, size = Path(staging) / name, 0
        with part.open("wb") as file:
            for block in blocks:
                size += file.write(block)
                if size > limits.max_bytes:
                    most = f"data.max_bytes = {limits.max_bytes:,} bytes"
                    raise TokkaError(f"data.source {source} has more than {most}", "use a smaller file")
        return part.replace(folder / name)
