"""Who delivers: one pass over the receivers, and the loop and the short life of a sender that are made of passes.

    python -m tokka.notifications.delivery .tokka/stack     # by its params.json; ends when nothing is due now

Of several senders one at a time sends to a receiver. A receiver that is away is tried again after 2, 4, 8 … seconds,
ten minutes at most, for `notifications.give_up_days`; the receivers are independent of each other.
"""

import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from tokka import failpoints, files
from tokka.database import PATIENCE_S
from tokka.errors import TokkaError
from tokka.notifications import addresses, channels, events
from tokka.notifications.addresses import Address
from tokka.notifications.outbox import Delivery, Outbox, emit
from tokka.params import Params
from tokka.processes import json_log
from tokka.sections_serving import Notifications, Receiver
from tokka.settings import Settings

logger = logging.getLogger("tokka.notifications")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 600.0
POLL_S = 2.0
DAY_S = 86_400.0


class Count(NamedTuple):
    """What came of a pass."""

    sent: int = 0
    failed: int = 0
    given_up: int = 0


class Sender:
    """Delivers for the receivers that it knows an address of; `page` is the URL of MLflow's pages, for the links.

    `send` is channels.send but for tests, `holder` names this sender among others.
    """

    def __init__(
        self, outbox: Outbox, told: Notifications, known: Mapping[str, Address], page: str = "",
        send: Callable[[Receiver, Address, events.Message], str] = channels.send,
        holder: str = "",
    ) -> None:  # fmt: skip
        self._outbox, self._known, self._page, self._send = outbox, known, page, send
        self._receivers = [one for one in told.receivers if one.name in known]
        self._give_up_s = told.give_up_days * DAY_S
        self._holder = holder or f"{socket.gethostname()}/{os.getpid()}/{os.urandom(4).hex()}"

    def run_once(self) -> Count:
        """Send whatever is due now; TokkaError when the record does not answer."""
        given_up = self._outbox.give_up(self._give_up_s)
        for name in sorted({name for name, _ in given_up}):
            count, error = sum(one == name for one, _ in given_up), next(why for one, why in given_up if one == name)
            logger.error(f"{count} notifications for {name} are given up: {error or 'nothing could send them'}")
        counts = [self._serve(receiver) for receiver in self._receivers]
        return Count(sum(one.sent for one in counts), sum(one.failed for one in counts), len(given_up))

    def is_due(self) -> bool:
        """Whether there is something to send now."""
        return self._outbox.is_due(self._receivers, self._give_up_s)

    def _serve(self, receiver: Receiver) -> Count:
        """Send what is due at one receiver, up to the first failure: who is away is not asked for each message."""
        self._outbox.route(receiver, self._give_up_s)
        if not self._outbox.lease(receiver.name, self._holder):
            return Count()
        sent = 0
        try:
            while (one := self._outbox.take(receiver.name, self._holder)) is not None:
                if not self._deliver(receiver, one):
                    return Count(sent, 1)
                sent += 1
            return Count(sent)
        finally:
            self._outbox.release(receiver.name, self._holder)

    def _deliver(self, receiver: Receiver, one: Delivery) -> bool:
        message = events.message(one.id, one.time, one.event, self._page)
        with failpoints.at("notify"):
            error = self._send(receiver, self._known[receiver.name], message)
        if not error:
            self._outbox.sent(one)
            return True
        logger.warning(f"{receiver.name} was not told (try {one.tries}): {error}", extra={"job": one.id})
        self._outbox.failed(one, error, pause_s(one.tries))
        return False


def pause_s(tries: int) -> float:
    """How long to wait after so many failed tries, in seconds."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(tries - 1, 20))


def sender(params: Params, settings: Settings) -> Sender | None:
    """Who delivers with these addresses; None when nobody is to be told, or no address is known here.

    UsageError for an address that cannot be used, TokkaError when the record does not answer.
    """
    told = params.notifications
    known = addresses.read(settings) if told.receivers else {}
    if not known:
        return None
    return Sender(Outbox(settings.record_url), told, known, settings.page)


def tell(event: events.Event, params: Params, settings: Settings) -> None:
    """Put an event into the outbox, waiting for a record that is away, and try to send it at once from here.

    TokkaError when the record does not answer.
    """
    Outbox(settings.record_url, patience_s=PATIENCE_S).transact(lambda connection: emit(event, connection))
    try_once(params, settings)


def try_once(params: Params, settings: Settings) -> None:
    """Send what is due now, if that is possible here; what is not sent is left to others, so that nothing fails."""
    try:
        if found := sender(params, settings):
            found.run_once()
    except TokkaError as error:
        logger.warning(f"notifications wait: {error.message}")


def loop(found: Sender, ended: threading.Event, poll_s: float = POLL_S) -> None:
    """Send until `ended`; a record that is away is asked again."""
    while not ended.is_set():
        try:
            if found.is_due():
                found.run_once()
        except TokkaError as error:
            logger.warning(error.message)
        ended.wait(poll_s)


def main() -> int:
    """Send what is due, and what becomes due meanwhile; the exit code is 0 once nothing is."""
    params = Params.model_validate(files.read_json(Path(sys.argv[1]) / "params.json"))
    json_log.start("notify", endpoint=params.registry.model)
    try:
        found = sender(params, Settings.from_environment())
        while found is not None and found.is_due() and any(found.run_once()):
            pass
    except TokkaError as error:
        logger.error(error.message, extra={"hint": error.hint})
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
