"""Folders in object storage, by content: a file is kept once, under its sha256, and a folder is a list of those."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

from tokka import files, objects
from tokka.errors import TokkaError

BLOBS = "files"
# The files of a folder by name: sha256 and bytes of each.
Contents = dict[str, tuple[str, int]]


def put(base: str, folder: Path, names: Iterable[str]) -> Contents:
    """Copy files of a folder below `base`, those alone that are not there yet."""
    place, contents = objects.join(base, BLOBS), dict[str, tuple[str, int]]()
    there = objects.listing(place)
    for name in sorted(names):
        path = folder / name
        digest, size = files.digest_file(path), path.stat().st_size
        if digest not in there or there[digest].size != size:
            objects.write(path, objects.join(place, digest))
        contents[name] = (digest, size)
    return contents


def fetch(base: str, contents: Contents, into: Path) -> None:
    """Copy a folder's files into another one. TokkaError when one is missing, or not what its digest says."""
    for name, (digest, size) in contents.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise TokkaError(f"{base} lists a file {name!r}, which lies outside of its folder", "it was altered")
        address = objects.join(objects.join(base, BLOBS), digest)
        objects.read(address, into / name, most=size)
        if (found := files.digest_file(into / name)) != digest:
            raise TokkaError(f"{address} has the sha256 {found[:12]}", "it was altered: delete what is below it")


def prune(base: str, kept: Collection[str]) -> None:
    """Delete the files below `base` whose digests are not among those kept."""
    place = objects.join(base, BLOBS)
    for name in objects.listing(place):
        if name not in kept:
            objects.delete(objects.join(place, name))


def digests(*folders: Mapping[str, tuple[str, int]]) -> set[str]:
    """The digests of all files of some folders."""
    return {digest for folder in folders for digest, _ in folder.values()}


def read_contents(tree: Mapping[str, list[str | int]]) -> Contents:
    """Contents as JSON has them."""
    return {name: (str(digest), int(size)) for name, (digest, size) in tree.items()}
