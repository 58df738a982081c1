"""Where receivers are: URLs by name, which are secrets: no message, log or row of the database shows one.

    TOKKA_NOTIFY_URLS="mail=mailtos://me:secret@example.com bus=https://events.example.com/in"
    TOKKA_NOTIFY_FILE=/etc/tokka/notify.urls     # a line for each, mode 0600; default: notify.urls in TOKKA_HOME

The variable goes before the file. Both hold name=URL, separated by white space; # begins a comment in the file.
"""

import logging
import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tokka.errors import TokkaError, UsageError
from tokka.sections_serving import Notifications, Receiver
from tokka.settings import Settings

URLS, FILE, DEFAULT_FILE = "TOKKA_NOTIFY_URLS", "TOKKA_NOTIFY_FILE", "notify.urls"
HIDDEN = "***"
SHORTEST_SECRET = 3


class Address:
    """A URL that is printed as *** only; `reveal` is for whoever sends to it."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __repr__(self) -> str:
        return HIDDEN

    @property
    def reveal(self) -> str:
        """The URL itself."""
        return self._url

    @property
    def scheme(self) -> str:
        """What stands before ://."""
        return self._url.partition("://")[0].lower() if "://" in self._url else ""

    def hide(self, text: str) -> str:
        """A text of somebody else's without the URL or any part of it that may be a secret: all but the scheme."""
        for part in sorted(self._parts(), key=len, reverse=True):
            text = text.replace(part, HIDDEN)
        return text

    def _parts(self) -> set[str]:
        rest = self._url.partition("://")[2]
        try:
            password = urlsplit(self._url).password or ""
        except ValueError:
            password = ""
        found = {self._url, rest, *re.split(r"[/?&=:@#,]+", rest)}
        kept = {part for part in found if len(part) >= SHORTEST_SECRET} | ({password} - {""})
        return kept | {unquote(part) for part in kept} | {unquote(part.replace("+", " ")) for part in kept}


def read(settings: Settings, environment: Mapping[str, str] | None = None) -> dict[str, Address]:
    """The addresses by name; empty when none are given.

    UsageError for an entry that is no name=URL, or for a file that others can read; neither shows what it holds.
    """
    env = os.environ if environment is None else environment
    if given := env.get(URLS, "").strip():
        return dict(_entry(word, f"entry {number} of {URLS}") for number, word in enumerate(given.split(), start=1))
    path = settings.root / (env.get(FILE) or settings.home / DEFAULT_FILE)
    lines = _content(path, required=bool(env.get(FILE))).splitlines()
    words = [(number, word) for number, line in enumerate(lines, start=1) for word in _without_comment(line).split()]
    return dict(_entry(word, f"{path}, line {number}") for number, word in words)


def of(receivers: Sequence[Receiver], addresses: Mapping[str, Address]) -> dict[str, Address]:
    """The addresses of these receivers.

    UsageError for one that has none, whose kind of address nothing here speaks, or an address that no receiver has.
    """
    for one in receivers:
        if one.name not in addresses:
            raise UsageError(
                f"notifications.receivers names {one.name!r}, and no address has this name",
                f"put a line {one.name}=URL into TOKKA_HOME/{DEFAULT_FILE} (mode 600), or set {URLS}='{one.name}=URL'",
            )
        _require_spoken(one, addresses[one.name])
    if unknown := sorted(set(addresses) - {one.name for one in receivers}):
        raise UsageError(
            f"there is an address for {', '.join(map(repr, unknown))}, and notifications.receivers has no such name",
            "add {name: " + unknown[0] + "} to notifications.receivers in params.yaml, or take the address away",
        )
    return {one.name: addresses[one.name] for one in receivers}


def check(notifications: Notifications, settings: Settings) -> str:
    """Who is told, for preflight; raises what `read` and `of` raise. Pods of steps may be given no address."""
    if not notifications.receivers:
        return "nobody is told"
    found = read(settings)
    if settings.in_pod and not found:
        return f"{len(notifications.receivers)} receivers, told by whoever runs `tokka notify --loop`"
    of(notifications.receivers, found)
    return ", ".join(f"{one.name} ({found[one.name].scheme})" for one in notifications.receivers)


def apprise() -> Any:
    """The library, whose own log goes nowhere: it shows addresses."""
    import apprise as found

    log = logging.getLogger("apprise")
    log.propagate = False
    log.addHandler(logging.NullHandler())
    return found


def _require_spoken(receiver: Receiver, address: Address) -> None:
    name = f"the address of {receiver.name!r}"
    if receiver.protocol == "cloudevents":
        if address.scheme not in ("http", "https"):
            raise UsageError(f"{name} is no http:// or https:// URL, and CloudEvents are sent over HTTP", "mend it")
        return
    if apprise().Apprise.instantiate(address.reveal) is None:
        raise UsageError(
            f"{name} is no URL that apprise understands (it begins with {address.scheme or 'no scheme'}://)",
            "see https://github.com/caronc/apprise for the URL of each service, and `tokka notify --test`",
        )


def _entry(word: str, place: str) -> tuple[str, Address]:
    name, equals, url = word.partition("=")
    if not equals or not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name) or "://" not in url:
        raise UsageError(f"{place} is no name=URL", "for example: team=mailtos://user:password@example.com")
    return name, Address(url)


def _content(path: Path, *, required: bool) -> str:
    try:
        mode = path.stat().st_mode
        if stat.S_IMODE(mode) & 0o077:
            raise UsageError(
                f"{path} holds secrets, and others than its owner may use it (mode {stat.S_IMODE(mode):o})",
                f"chmod 600 {path}",
            )
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if required:
            raise UsageError(f"{path}, which {FILE} names, does not exist", "write a line name=URL into it") from None
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise TokkaError(f"{path} cannot be read: {type(error).__name__}", "mend its permissions or content") from None


def _without_comment(line: str) -> str:
    """A # begins a comment at the start of a word only: URLs have fragments."""
    return re.split(r"(?:^|\s)#", line, maxsplit=1)[0]
