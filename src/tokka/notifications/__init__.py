"""Telling people and programs what happened: an outbox in the record's database, and who delivers it.

    emit(Event("refused", endpoint="helpdesk", subject=key, what="…", why=reasons), connection)   # with a transaction
    emit(Event(…), settings.record_url)                                                             # in one of its own

None is lost: it is delivered until its receiver takes it. None is told twice: kind, endpoint and subject make its id.
"""

from tokka.notifications.events import Event
from tokka.notifications.outbox import emit

__all__ = ["Event", "emit"]
