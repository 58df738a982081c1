"""What a demo tells is written down as it came."""

import json

from benchmarks.notifications import RECEIVERS, report
from tests.fixtures.receivers import EventServer, MailServer, text_of
from tokka.notifications import Event, addresses, channels
from tokka.notifications.events import message
from tokka.params import parse_params
from tokka.settings import Settings


def test_both_receivers_are_told_the_same_and_each_is_shown_as_it_came(tmp_path):
    receivers = parse_params({"notifications": {"receivers": RECEIVERS}}).notifications.receivers
    event = Event("promoted", "desk", "r/7", "Version 2 is the champion.", ("nothing stands against it",), version="2")
    told = message(event.id, 0.0, event.as_json())
    with MailServer() as mail, EventServer() as bus:
        urls = {addresses.URLS: f"people={mail.url()} programs={bus.url()}"}
        known = addresses.read(Settings.from_environment({"TOKKA_HOME": str(tmp_path)}), urls)
        assert [channels.send(one, known[one.name], told) for one in receivers] == ["", ""]
        events = [json.loads(body) for _, body in bus.requests]
        texts = [(str(one["Subject"]), text_of(one)) for one in mail.messages]
    page = "\n".join(report(events, texts, 0.0, once=True))
    assert "| 1970-01-01T00:00:00.000Z | tokka.promoted | r/7 | Version 2 is the champion. |" in page
    assert "## desk, version 2: promoted\n\n```\nVersion 2 is the champion." in page
    assert texts[0][1].rstrip().endswith(f"id {events[0]['id']}")
