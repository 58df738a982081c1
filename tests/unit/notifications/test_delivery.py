"""None is lost and none is told twice: receivers that go and come, senders that are killed, two at once, chance."""

import contextlib
import json
import os
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.fixtures.ports import free_port
from tests.fixtures.receivers import EventServer, MailServer
from tests.fixtures.waiting import PATIENCE_S, wait_for
from tokka import files
from tokka.notifications import Event, emit
from tokka.notifications.addresses import Address
from tokka.notifications.delivery import LONGEST_PAUSE_S, Count, Sender, loop, pause_s
from tokka.notifications.outbox import LEASE_S, Outbox
from tokka.params import Params, parse_params
from tokka.sections_serving import Notifications, Receiver

TOLD = Notifications(receivers=(Receiver(name="team"), Receiver(name="bus", protocol="cloudevents")))
BUS = Notifications(receivers=(Receiver(name="bus", protocol="cloudevents"),))
NOWHERE = {"team": Address("json://nowhere"), "bus": Address("http://nowhere")}


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def event(number: int) -> Event:
    return Event("promoted", "helpdesk", str(number), f"Version {number} is the champion.", version=str(number))


def ids(server: EventServer) -> list[str]:
    return [json.loads(body)["id"] for _, body in server.requests]


def states(url: str) -> list[str]:
    return sorted(row.state for row in Outbox(url).rows())


def test_receivers_that_are_away_are_told_once_they_are_back_each_for_itself(record_url):
    clock, mail, bus = Clock(), MailServer(), EventServer()
    known = {"team": Address(mail.url()), "bus": Address(bus.url())}
    sender = Sender(Outbox(record_url, clock), TOLD, known)
    for number in range(3):
        emit(event(number), record_url, clock.now + number)
    clock.now += 10
    with bus:
        assert sender.run_once() == Count(sent=3, failed=1)
        assert sender.run_once() == Count()
        assert not sender.is_due()
        clock.now += pause_s(1)
        assert sender.run_once() == Count(failed=1)
        with mail:
            clock.now += pause_s(2)
            assert sender.run_once() == Count(sent=3)
            assert not sender.is_due()
    assert len(mail.messages) == 3
    assert ids(bus) == [event(number).id for number in range(3)]
    assert states(record_url) == ["sent"] * 6


def test_what_nobody_takes_for_days_is_given_up_and_said(record_url, caplog):
    clock = Clock()
    sender = Sender(Outbox(record_url, clock), BUS, {"bus": Address(f"http://127.0.0.1:{free_port()}/verysecret")})
    emit(event(1), record_url, clock.now)
    assert sender.run_once() == Count(failed=1)
    clock.now += 7 * 86_400 + 1
    assert sender.run_once() == Count(given_up=1)
    assert "1 notifications for bus are given up: ConnectError" in caplog.text
    assert "1 notifications for bus given up" in Outbox(record_url, clock).problems()[0]
    assert "verysecret" not in caplog.text + str(Outbox(record_url).rows())


@pytest.mark.parametrize("moment, received", [("before", 1), ("after", 2)])
def test_a_sender_killed_between_sending_and_the_mark_is_followed_under_the_same_id(tmp_path, moment, received):
    url, plan, home = f"sqlite:///{tmp_path}/record.db", tmp_path / "plan", tmp_path / "stack"
    home.mkdir()
    params = parse_params({"notifications": {"receivers": [{"name": "bus", "protocol": "cloudevents"}]}})
    files.write_json(home / "params.json", params.model_dump(mode="json"))
    emit(event(1), url)
    plan.write_text(f"notify:{moment}:1")
    with EventServer() as bus:
        environment = {
            **os.environ, "TOKKA_HOME": str(tmp_path), "TOKKA_ROOT": str(tmp_path), "TOKKA_CRASH_AT": str(plan),
            "TOKKA_NOTIFY_URLS": f"bus={bus.url()}", "TOKKA_RECORD_URL": url,
        }  # fmt: skip
        command = [sys.executable, "-m", "tokka.notifications.delivery", str(home)]
        assert subprocess.run(command, env=environment, timeout=PATIENCE_S, check=False).returncode == -9
        assert states(url) == ["sending"]
        later = Clock()
        later.now = Outbox(url).rows()[0].time + LEASE_S + 10
        assert Sender(Outbox(url, later), BUS, {"bus": Address(bus.url())}).run_once() == Count(sent=1)
    assert ids(bus) == [event(1).id] * received
    assert states(url) == ["sent"]


def test_two_senders_at_once_tell_nobody_twice(record_url):
    for number in range(20):
        emit(event(number), record_url)
    with EventServer() as bus:
        known = {"bus": Address(bus.url())}
        ended, found = threading.Event(), [Sender(Outbox(record_url), BUS, known) for _ in range(2)]
        threads = [threading.Thread(target=loop, args=(one, ended, 0.01)) for one in found]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(bus.requests) >= 20 and not found[0].is_due(), what=lambda: f"{len(bus.requests)} of 20")
        ended.set()
        for thread in threads:
            thread.join()
    assert sorted(ids(bus)) == sorted(event(number).id for number in range(20))


class Killed(BaseException):
    """The sender's end."""


FATES = ("taken", "away", "killed before", "killed after")
steps = st.lists(
    st.one_of(
        st.tuples(st.just("emit"), st.integers(0, 5)),
        st.tuples(st.just("pass"), st.lists(st.sampled_from(FATES), max_size=4)),
        st.tuples(st.just("wait"), st.sampled_from([1.0, 5.0, LEASE_S, 900.0])),
    ),
    max_size=25,
)


@examples(max_examples=40)
@given(script=steps)
def test_none_is_lost_and_none_told_twice_but_by_a_kill_at_the_worst_moment(tmp_path_factory, script):
    url, clock = f"sqlite:///{tmp_path_factory.mktemp('outbox')}/record.db", Clock()
    told, emitted, fates = list[str](), set[str](), list[str]()
    killed_after = 0

    def run() -> None:
        outbox = Outbox(url, clock)

        def send(receiver, address, message):
            nonlocal killed_after
            fate = fates.pop(0) if fates else "taken"
            if fate.startswith("killed"):
                outbox.release = lambda *_: None  # whoever is killed tidies nothing up
            if fate in ("taken", "killed after"):
                told.append(message.id)
            killed_after += fate == "killed after"
            if fate.startswith("killed"):
                raise Killed
            return "" if fate == "taken" else fate

        with contextlib.suppress(Killed):
            Sender(outbox, BUS, NOWHERE, send=send).run_once()

    for kind, value in script:
        if kind == "emit":
            emit(event(value), url, clock.now)
            emitted.add(event(value).id)
        elif kind == "wait":
            clock.now += value
        else:
            fates[:] = value
            run()
    fates.clear()
    for _ in range(3):
        clock.now += LONGEST_PAUSE_S + LEASE_S
        run()
    assert set(told) == emitted
    assert len(told) - len(emitted) <= killed_after
    assert states(url) == ["sent"] * len(emitted)


def test_the_pauses_grow_and_end():
    assert [pause_s(tries) for tries in (1, 2, 3, 9, 10, 10_000)] == [2.0, 4.0, 8.0, 512.0, 600.0, 600.0]


def test_who_is_told_makes_no_other_run_of_it():
    from tokka.provenance import params_digest

    assert params_digest(Params()) == params_digest(Params(notifications=TOLD))
