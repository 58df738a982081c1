"""The secret of a stack, in a file that only its owner may read: what gateway and workers know, and nobody else.

Four keys are made from it: of requests from the gateway to a worker, of the split, of prediction ids, and the one with
which the stack's own user asks where nobody else needs a key.
"""

import base64
import hashlib
import hmac
import secrets
from pathlib import Path
from typing import NamedTuple

from tokka import files
from tokka.errors import TokkaError

FILE = "secret.key"
# A prediction id is HAProxy's UUID, and so many bytes of its code in hexadecimal digits.
CODE_BYTES = 8
# So long a caller's naming holds, or twice as long; clocks may differ by as much.
VOUCHED_S = 300.0
# Three bytes are four digits of base64: so many need no padding, which HAProxy would not take.
_KEY_BYTES = 30


class StackKey(NamedTuple):
    """Keys made from one secret; `split` and `ids` are bytes, the others words for a header."""

    internal: str
    own: str
    split: bytes
    ids: bytes

    @classmethod
    def of(cls, folder: Path) -> "StackKey":
        """From the file in a folder; made when there is none. TokkaError when others may read it."""
        path = folder / FILE
        if not path.exists():
            files.write_bytes(path, secrets.token_bytes(32), mode=0o600)
        return cls.read(path)

    @classmethod
    def read(cls, path: Path, *, mounted: bool = False) -> "StackKey":
        """From this file; TokkaError when it cannot be read, or others may read it, but for one that a pod mounts."""
        try:
            mode, secret = path.stat().st_mode, path.read_bytes()
        except OSError as error:
            raise files.unreadable(error) from None
        if mounted and len(secret) < 32:
            raise TokkaError(f"{path}: {len(secret)} bytes are no secret", "make it of 32 random bytes or more")
        if not mounted and (mode & 0o077 or len(secret) < 32):
            raise TokkaError(f"{path}: others may read it, or it is cut", "tokka down, delete it, tokka up")
        made = {name: hmac.digest(secret, name.encode(), hashlib.sha256) for name in cls._fields}
        own, internal = made["own"].hex(), made["internal"].hex()
        return cls(internal, own, made["split"][:_KEY_BYTES], made["ids"][:_KEY_BYTES])

    def configuration(self) -> dict[str, str]:
        """The variables of the gateway's configuration."""
        split, ids = (base64.b64encode(key).decode() for key in (self.split, self.ids))
        return {"internal_key": self.internal, "own_secret": self.own, "split_key": split, "id_key": ids}

    def issued(self, prediction_id: str) -> bool:
        """Whether the gateway has made this id; a row's number behind it does not matter."""
        name, _, code = prediction_id.partition(".")[0].rpartition("-")
        return hmac.compare_digest(code.encode(), self._code(name).encode())

    def issue(self, name: str) -> str:
        """The prediction id that the gateway makes of a UUID."""
        return f"{name}-{self._code(name)}"

    def vouch(self, client: str, trusted: bool, now: float) -> str:
        """What says to a pod that its authorizer has named this caller, now (seconds since 1970) or a little later.

        Whoever asks the authorizer gets it for himself alone.
        """
        said = f"{client}\n{int(trusted)}\n{int(now // VOUCHED_S)}".encode()
        return hmac.digest(self.internal.encode(), said, hashlib.sha256)[:16].hex()

    def vouches(self, told: str, client: str, trusted: bool, now: float) -> bool:
        """Whether `vouch` has said so within the last minutes."""
        wanted = [self.vouch(client, trusted, now + apart) for apart in (0.0, -VOUCHED_S, VOUCHED_S)]
        return any(hmac.compare_digest(told.encode("latin-1", "replace"), one.encode()) for one in wanted)

    def _code(self, name: str) -> str:
        return hmac.digest(self.ids, name.encode(), hashlib.sha256)[:CODE_BYTES].hex().upper()

    def opens(self, told: str) -> bool:
        """Whether a header's value is the gateway's."""
        return hmac.compare_digest(told.encode("latin-1", "replace"), self.internal.encode())
