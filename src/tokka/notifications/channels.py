"""One message to one address, by apprise or as a CloudEvent over HTTP. What goes wrong is told without the address.

https://github.com/caronc/apprise; CloudEvents 1.0.2, HTTP protocol binding, structured and binary mode.
"""

import json
import logging
from urllib.parse import quote

from tokka.notifications import addresses
from tokka.notifications.addresses import Address
from tokka.notifications.events import Message
from tokka.sections_serving import Receiver

TIMEOUT_S = 10.0
STRUCTURED = "application/cloudevents+json; charset=UTF-8"


def send(receiver: Receiver, address: Address, message: Message) -> str:
    """Deliver, and return what went wrong: empty when the receiver has taken it."""
    try:
        found = (_post if receiver.protocol == "cloudevents" else _notify)(receiver, address, message)
    except Exception as error:  # a hundred services, each with errors of its own; none may end the sender
        found = f"{type(error).__name__}: {error}"
    return address.hide(" ".join(found.split()))


def _post(receiver: Receiver, address: Address, message: Message) -> str:
    import httpx

    event = message.cloud_event()
    if receiver.mode == "binary":
        body, headers = _json(event.pop("data")), {"Content-Type": str(event.pop("datacontenttype"))}
        # Values are percent-encoded where they are no printable ASCII (section 3.1.3.2).
        headers |= {f"ce-{name}": quote(str(value), safe=_PRINTABLE) for name, value in event.items()}
    else:
        body, headers = _json(event), {"Content-Type": STRUCTURED}
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs each URL
    answer = httpx.post(address.reveal, content=body, headers=headers, timeout=TIMEOUT_S)
    return "" if answer.is_success else f"it answered {answer.status_code}"


_PRINTABLE = "".join(character for character in map(chr, range(33, 127)) if character not in '"%')


def _notify(receiver: Receiver, address: Address, message: Message) -> str:
    library = addresses.apprise()
    # What went wrong is in its log alone.
    with library.LogCapture(level=logging.WARNING, name="apprise", fmt="%(message)s") as log:
        service = library.Apprise(asset=library.AppriseAsset(app_id="Tokka", app_desc="Tokka", app_url=""))
        if not service.add(address.reveal):
            return "apprise does not understand the address"
        taken = service.notify(title=message.title, body=message.text(), body_format=library.NotifyFormat.TEXT)
        return "" if taken else log.getvalue().strip() or "it was not taken"


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
