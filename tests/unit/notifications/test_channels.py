"""What a receiver gets, over a real mail server and a real HTTP server, and what is said when it does not."""

import logging

import pytest
from cloudevents.http import from_http
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures.ports import free_port
from tests.fixtures.receivers import EventServer, MailServer, text_of
from tokka.notifications import Event, addresses
from tokka.notifications.addresses import Address
from tokka.notifications.channels import send
from tokka.notifications.events import message
from tokka.sections_serving import Receiver

TEAM = Receiver(name="team")
BUS = Receiver(name="bus", protocol="cloudevents")
EVENT = Event(
    "rolled_back", "helpdesk", "r1/7", "Version 3 is taken away in phase step at 25 % of live traffic.",
    ["errors: 4 % more, größer als 2 %"], version="3", run_id="f00d", details={"share": 0.25},
)  # fmt: skip
MESSAGE = message(EVENT.id, 1_760_000_000.0, EVENT.as_json(), "http://me:secret@mlflow.test:5000")


@pytest.fixture(scope="module")
def mail():
    with MailServer() as server:
        yield server


@pytest.fixture(scope="module")
def bus():
    with EventServer() as server:
        yield server


def test_a_mail_says_what_happened_why_what_is_needed_and_where_the_report_is(mail):
    assert send(TEAM, Address(mail.url()), MESSAGE) == ""
    found = mail.messages.pop()
    assert str(found["subject"]) == "helpdesk, version 3: rolled back"
    assert text_of(found).strip() == (
        "Version 3 is taken away in phase step at 25 % of live traffic.\n\n"
        "Why:\n- errors: 4 % more, größer als 2 %\n\n"
        "Needed: whoever offered the version reads the reasons; the previous champion serves\n"
        "Version: http://mlflow.test:5000/#/models/helpdesk/versions/3\n"
        "Report: http://mlflow.test:5000/#/runs/f00d\n\n"
        f"2025-10-09T08:53:20.000Z, id {EVENT.id}"
    )


@pytest.mark.parametrize("mode", ["structured", "binary"])
def test_a_cloud_event_is_one_for_a_parser_that_nobody_here_wrote(bus, mode):
    assert send(BUS.model_copy(update={"mode": mode}), Address(bus.url()), MESSAGE) == ""
    headers, body = bus.requests.pop()
    found = from_http(headers, body)
    assert (found["id"], found["type"], found["source"]) == (EVENT.id, "tokka.rolled_back", "/tokka/helpdesk")
    assert (found["specversion"], found["subject"], found["time"]) == ("1.0", "r1/7", "2025-10-09T08:53:20.000Z")
    assert found.data["why"] == ["errors: 4 % more, größer als 2 %"] and found.data["share"] == 0.25
    assert found.data["links"]["Report"] == "http://mlflow.test:5000/#/runs/f00d"


def test_a_receiver_that_refuses_has_not_taken_it(bus):
    bus.answers = [503]
    assert send(BUS, Address(bus.url()), MESSAGE) == "it answered 503"
    assert bus.requests == []


words = st.text(st.sampled_from("abcdefgXYZ0123456789-_.~%"), min_size=4, max_size=20).map(lambda text: f"s3{text}")


@given(user=words, password=words, token=words)
def test_no_part_of_an_address_is_in_an_error_or_a_log(user, password, token):
    """Nothing listens at this port, and a library's own words about that have the address in them."""
    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    kept, root = Kept(level=0), logging.getLogger()
    level = root.level
    root.addHandler(kept)
    root.setLevel(logging.DEBUG)
    try:
        for receiver, url in (
            (TEAM, f"mailto://{user}:{password}@127.0.0.1:{NOBODY}/?to=a@b.test&name={token}"),
            (TEAM, f"json://{user}:{password}@127.0.0.1:{NOBODY}/{token}/"),
            (BUS, f"http://{user}:{password}@127.0.0.1:{NOBODY}/{token}?key={token}"),
        ):
            error = send(receiver, Address(url), MESSAGE)
            assert error
            lines.append(error + repr(Address(url)))
    finally:
        root.removeHandler(kept)
        root.setLevel(level)
    assert not [line for line in lines if user in line or password in line or token in line]


NOBODY = free_port()


def test_what_no_service_is_called_is_said_without_it(tmp_path):
    address = Address("nosuch://user:verysecret@there/token")
    assert "verysecret" not in send(TEAM, address, MESSAGE)
    with pytest.raises(Exception, match=r"'team' is no URL that apprise understands \(it begins with nosuch") as caught:
        addresses.of([TEAM], {"team": address})
    assert "verysecret" not in str(caught.value)
