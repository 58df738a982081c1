"""Whether somebody is to be told of something, asked by who starts the sender."""

from tokka.errors import TokkaError
from tokka.notifications import addresses
from tokka.notifications.delivery import DAY_S
from tokka.notifications.outbox import Outbox
from tokka.sections_serving import Notifications
from tokka.settings import Settings


class Due:
    """`problem` says what keeps notifications waiting; empty when nothing does."""

    def __init__(self, settings: Settings, told: Notifications) -> None:
        self._settings, self._told, self.problem = settings, told, ""
        self._outbox: Outbox | None = None

    def look(self) -> bool:
        """Whether a receiver whose address is known has something to be told; False when the outbox does not answer."""
        try:
            # A sender without an address would end at once, again and again.
            known = addresses.read(self._settings)
            self._outbox = self._outbox or Outbox(self._settings.record_url)
            reached = [one for one in self._told.receivers if one.name in known]
            due = self._outbox.is_due(reached, self._told.give_up_days * DAY_S)
        except TokkaError as error:
            self.problem = f"notifications wait: {error.message}"
            return False
        missing = ", ".join(one.name for one in self._told.receivers if one.name not in known)
        self.problem = f"notifications wait: no address is known of {missing}" if missing else ""
        return due
