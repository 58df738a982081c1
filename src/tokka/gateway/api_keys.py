"""API keys: 256 random bits each, kept as a SHA-256 digest with scopes and an expiry; the secret is shown once.

store = KeyStore(settings.home)
secret, key = store.create("crm", ("predict", "feedback"), days=90)
store.find(secret)                    # the key, whatever its state
store.revoke(key.id)
"""

import hashlib
import os
import secrets
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tokka.errors import TokkaError, UsageError
from tokka.gateway.exposure import OWN_CLIENT

SCOPES = ("predict", "feedback", "admin")
PREFIX = "tokka_"
OWN_SECRET = "own.key"
_TABLE = (
    "create table if not exists keys (id text primary key, name text not null, digest text not null unique, "
    "scopes text not null, created real not null, expires real not null, revoked real)"
)
_COLUMNS = "id, name, scopes, created, expires, revoked"


@dataclass(frozen=True)
class Key:
    """What is known of a key; times in seconds since 1970, `expires` 0 for never."""

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
    """Keys in a SQLite file that only its owner may read.

    Args:
        home: the folder that holds it.
    """

    def __init__(self, home: Path) -> None:
        self._path = home / "keys.db"

    def create(self, name: str, scopes: Sequence[str], *, days: float = 90.0) -> tuple[str, Key]:
        """Make a key and return its secret, which nothing keeps, and what is kept of it.

        Args:
            days: until it expires; 0 for never.

        Raises:
            UsageError: an unknown scope, or none, or a negative number of days.
        """
        unknown = [scope for scope in scopes if scope not in SCOPES]
        if unknown or not scopes:
            raise UsageError(f"unknown scope {unknown[0]!r}" if unknown else "no scope", f"use {', '.join(SCOPES)}")
        if not 0 <= days <= 36_500:
            raise UsageError(f"{days} is not a number of days from 0 to 36500", "0 means: never expires")
        now = time.time()
        expires = now + days * 86_400 if days else 0.0
        return self._insert(Key(secrets.token_hex(4), name, tuple(dict.fromkeys(scopes)), now, expires))

    def renew_own(self, folder: Path) -> None:
        """Replace the pipeline's own key by a new one, and leave its secret in `folder` for the owner alone."""
        with closing(self._open()) as database, database:
            database.execute("delete from keys where id = ?", (OWN_CLIENT,))
        secret, _ = self._insert(Key(OWN_CLIENT, "the pipeline's own traffic", SCOPES, time.time(), 0.0))
        path = folder / OWN_SECRET
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secret)

    def list(self) -> list[Key]:
        """Every key of a user, the newest first, revoked and expired ones too."""
        with closing(self._open()) as database:
            rows = database.execute(
                f"select {_COLUMNS} from keys where id != ? order by created desc", (OWN_CLIENT,)
            ).fetchall()
        return [_key(row) for row in rows]

    def find(self, secret: str) -> Key | None:
        """The key with this secret, revoked or expired as it may be."""
        with closing(self._open()) as database:
            row = database.execute(f"select {_COLUMNS} from keys where digest = ?", (_digest(secret),)).fetchone()
        return _key(row) if row else None

    def revoke(self, name: str) -> Key:
        """Refuse a key, by its id, from now on.

        Raises:
            TokkaError: there is no such key.
        """
        with closing(self._open()) as database, database:
            database.execute("update keys set revoked = ? where id = ? and revoked is null", (time.time(), name))
            row = database.execute(
                f"select {_COLUMNS} from keys where id = ? and id != ?", (name, OWN_CLIENT)
            ).fetchone()
            if row is None:
                database.rollback()
        if row is None:
            raise TokkaError(f"there is no key {name!r}", "`tokka keys list` shows their ids")
        return _key(row)

    def _insert(self, key: Key) -> tuple[str, Key]:
        secret = f"{PREFIX}{key.id}_{secrets.token_urlsafe(32)}"
        values = (key.id, key.name, _digest(secret), ",".join(key.scopes), key.created, key.expires)
        with closing(self._open()) as database, database:
            database.execute("insert into keys values (?, ?, ?, ?, ?, ?, null)", values)
        return secret, key

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # SQLite would make the file with the process's umask, and its side files with the file's mode.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        database = sqlite3.connect(self._path, timeout=5.0)
        database.execute(_TABLE)
        return database


def own_headers(home: Path) -> dict[str, str]:
    """The header with which the pipeline's own requests pass its gateway; none when nobody is asked."""
    try:
        return {"x-api-key": (home / "stack" / OWN_SECRET).read_text(encoding="utf-8")}
    except OSError:
        return {}


def _digest(secret: str) -> str:
    # The secret has 256 random bits: a slow hash would protect nothing that this one does not.
    return hashlib.sha256(secret.encode()).hexdigest()


def _key(row: tuple[str, str, str, float, float, float | None]) -> Key:
    return Key(row[0], row[1], tuple(row[2].split(",")), row[3], row[4], row[5])
