"""API keys: 256 random bits each, stored as a SHA-256 digest with scopes and an expiry; the secret is shown once."""

import hashlib
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tokka import files
from tokka.errors import TokkaError, UsageError
from tokka.gateway.exposure import OWN_CLIENT

SCOPES = ("predict", "feedback", "admin")
PREFIX = "tokka_"
OWN_SECRET = "own.key"
_TABLE = (
    "create table if not exists keys (id text primary key, name text not null, digest text not null unique, "
    "scopes text not null, created real not null, expires real not null, revoked real)"
)
_SELECT = "select id, name, scopes, created, expires, revoked from keys where "


@dataclass(frozen=True)
class Key:
    """A key without its secret; times in seconds since 1970, `expires` 0 for never."""

    id: str
    name: str
    scopes: tuple[str, ...]
    created: float
    expires: float
    revoked: float | None = None

    def problem(self, now: float) -> str:
        """Why the key is not accepted, in a few words; empty when it is."""
        if self.revoked is not None:
            return "the API key was revoked"
        return "the API key has expired" if 0 < self.expires <= now else ""


class KeyStore:
    """Keys in a SQLite file of a home that only its owner may read; `read_only` where it is mounted so."""

    def __init__(self, home: Path, *, read_only: bool = False) -> None:
        self._path, self._read_only = home / "keys.db", read_only

    def create(self, name: str, scopes: Sequence[str], *, days: float = 90.0) -> tuple[str, Key]:
        """Make a key for so many days (0: for ever), and return its secret, which is stored nowhere, and the key.

        Raises UsageError for an unknown scope, or none, or a negative number of days.
        """
        unknown = [scope for scope in scopes if scope not in SCOPES]
        if unknown or not scopes:
            raise UsageError(f"unknown scope {unknown[0]!r}" if unknown else "no scope", f"use {', '.join(SCOPES)}")
        if not 0 <= days <= 36_500:
            raise UsageError(f"{days} is not a number of days from 0 to 36500", "0 means: never expires")
        now = time.time()
        expires = now + days * 86_400 if days else 0.0
        return self._insert(Key(secrets.token_hex(4), name, tuple(dict.fromkeys(scopes)), now, expires))

    def renew_internal_key(self, folder: Path) -> None:
        """Replace the key of the pipeline's own traffic, and leave its secret in `folder` for the owner alone."""
        with self._open() as database:
            database.execute("delete from keys where id = ?", (OWN_CLIENT,))
        secret, _ = self._insert(Key(OWN_CLIENT, "the pipeline's own traffic", SCOPES, time.time(), 0.0))
        files.write_bytes(folder / OWN_SECRET, secret.encode(), mode=0o600)

    def list(self) -> Sequence[Key]:
        """Every key of a user, the newest first, also revoked and expired ones."""
        return self._select("id != ? order by created desc", OWN_CLIENT)

    def find(self, secret: str) -> Key | None:
        """The key with this secret, also a revoked or expired one."""
        return next(iter(self._select("digest = ?", _digest(secret))), None)

    def revoke(self, name: str) -> Key:
        """Refuse a key, by its id, from now on; raises TokkaError when there is none."""
        now = time.time()
        with self._open() as database:
            wanted = "update keys set revoked = ? where id = ? and id != ? and revoked is null"
            database.execute(wanted, (now, name, OWN_CLIENT))
        found = self._select("id = ? and id != ?", name, OWN_CLIENT)
        if not found:
            raise TokkaError(f"there is no key {name!r}", "`tokka keys list` shows their ids")
        return found[0]

    def _insert(self, key: Key) -> tuple[str, Key]:
        secret = f"{PREFIX}{key.id}_{secrets.token_urlsafe(32)}"
        values = (key.id, key.name, _digest(secret), ",".join(key.scopes), key.created, key.expires)
        with self._open() as database:
            database.execute("insert into keys values (?, ?, ?, ?, ?, ?, null)", values)
        return secret, key

    def _select(self, condition: str, *values: str) -> Sequence[Key]:
        with self._open() as database:
            rows = database.execute(_SELECT + condition, values).fetchall()
        return [Key(name, title, tuple(scopes.split(",")), *times) for name, title, scopes, *times in rows]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """One transaction."""
        if self._read_only:
            with closing(sqlite3.connect(f"{self._path.as_uri()}?mode=ro&immutable=1", uri=True)) as database:
                yield database
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # SQLite would make the file with the process's umask; its side files get the file's mode.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        with closing(sqlite3.connect(self._path, timeout=5.0)) as database, database:
            database.execute(_TABLE)
            yield database


def own_headers(home: Path) -> dict[str, str]:
    """The header with which the pipeline's own requests pass its gateway; none without authentication."""
    try:
        return {"x-api-key": (home / "stack" / OWN_SECRET).read_text(encoding="utf-8")}
    except OSError:
        return {}


def _digest(secret: str) -> str:
    # The secret has 256 random bits: a slow hash would add no protection.
    return hashlib.sha256(secret.encode()).hexdigest()
