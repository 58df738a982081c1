"""tokka consume and notify: one more consumer of asynchronous jobs, and who tells people what happened."""

import json
import time
from typing import Annotated, Literal

import typer

from tokka.cli import tables
from tokka.cli.console import Call, command
from tokka.errors import TokkaError, UsageError
from tokka.sections_serving import Receiver
from tokka.settings import Settings

app = typer.Typer()


@command(app, without=("json",))
def consume(call: Call) -> None:
    """Consume jobs from the broker's queue until Ctrl-C: ask the endpoint, keep the result, acknowledge.

    The stack of `tokka up` runs one consumer by itself; this is one more. Messages are Avro (job.avsc). Results are
    kept where the stack's gateway looks for them: in the jobs.db of the same TOKKA_HOME, or, from another home or
    machine, in the database that TOKKA_JOBS_URL names for both. The gateway is asked at TOKKA_HOST and TOKKA_PORT; one
    that asks for a key gets the one in TOKKA_KEY.

    Example: `TOKKA_BROKER=amqp://user:password@127.0.0.1:5672/ tokka consume`
    """
    import asyncio

    from tokka.jobs.process import run
    from tokka.processes import json_log

    params, settings = call.params, call.settings
    broker = settings.broker or params.serving.asynchronous.broker or ""
    settings = settings.model_copy(update={"broker": broker})
    if broker:
        require_reader(settings)
    json_log.start("jobs", quoting=False, endpoint=params.registry.model)
    asyncio.run(run(params, settings))


def require_reader(settings: Settings) -> None:
    """Check that a stack reads results where this consumer would keep them.

    UsageError when they would lie in a home whose stack takes no jobs.
    """
    from tokka.jobs.process import SECRET

    if settings.jobs_url != Settings.jobs_at(settings.home) or (settings.home / SECRET).exists():
        return
    raise UsageError(
        f"results would be kept in {settings.home}/jobs.db, and no stack that takes jobs has ever run in that home",
        "set TOKKA_HOME to the stack's home; from another machine, set TOKKA_JOBS_URL to one PostgreSQL "
        "database, here and for `tokka up`",
    )


@command(app)
def notify(
    call: Call,
    what: Annotated[Literal["send", "list"], typer.Argument(help="Send what is due, or list the outbox.")] = "send",
    test: Annotated[bool, typer.Option("--test", help="Send each receiver a test message instead.")] = False,
    loop: Annotated[bool, typer.Option("--loop", help="Go on until Ctrl-C or SIGTERM.")] = False,
) -> None:
    """Tell people what happened: send the notifications that wait, or look at them.

    Receivers stand in params.yaml (`notifications`), their addresses in `notify.urls` in TOKKA_HOME (mode 600; a line
    name=URL for each) or in TOKKA_NOTIFY_URLS. The stack of `tokka up` sends by itself; on a cluster `--loop` does.

    Example: `TOKKA_NOTIFY_URLS=team=mailto://127.0.0.1:25/?to=team@example.com tokka notify --test`
    """
    if what == "list":
        _list(call)
    elif test:
        _test(call)
    else:
        _send(call, loop)


def _list(call: Call) -> None:
    from tokka.notifications.outbox import Outbox

    rows = [row for row in Outbox(call.settings.record_url).rows() if row.state != "unwanted"]
    shown = tables.table("when", "what", "endpoint", "receiver", "state", "tries", "error")
    for row in rows:
        when = time.strftime("%F %T", time.localtime(row.time))
        cells = (when, row.kind, row.endpoint, row.receiver or "nobody yet", row.state, str(row.tries), row.error)
        shown.add_row(*cells)
    found = [{**row._asdict(), "event": json.loads(row.event)} for row in rows]
    call.conclude({"notifications": found}, shown if rows else "nothing has happened yet that people are told of")


def _test(call: Call) -> None:
    """TokkaError when a receiver does not take it."""
    from tokka.notifications import addresses, channels
    from tokka.notifications.events import test_message

    receivers, settings = _receivers(call), call.settings
    known = addresses.of(receivers, addresses.read(settings))
    message = test_message(call.params.registry.model, settings.page, time.time())
    failed: dict[str, str] = {}
    for one in receivers:
        error = channels.send(one, known[one.name], message)
        call.out.print(f"{one.name}: {error or 'taken'}")
        failed |= {one.name: error} if error else {}
    if failed:
        raise TokkaError(
            f"{len(failed)} of {len(receivers)} receivers did not take the test: {', '.join(failed)}",
            f"the lines above say why; their addresses stand in {addresses.DEFAULT_FILE} or {addresses.URLS}",
        )
    call.conclude({"sent": [one.name for one in receivers]})


def _send(call: Call, loop: bool) -> None:
    import signal
    import threading

    from tokka.notifications import addresses, delivery
    from tokka.processes import json_log

    receivers = _receivers(call)
    addresses.of(receivers, addresses.read(call.settings))
    found = delivery.sender(call.params, call.settings)
    assert found is not None
    if not loop:
        count = found.run_once()
        call.conclude(count._asdict(), f"{count.sent} sent, {count.failed} failed, {count.given_up} given up")
        return
    json_log.start("notify", quoting=False, endpoint=call.params.registry.model)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    delivery.loop(found, ended)


def _receivers(call: Call) -> tuple[Receiver, ...]:
    found = call.params.notifications.receivers
    if not found:
        hint = "name them in params.yaml, such as notifications: {receivers: [{name: team}]}"
        raise UsageError("notifications.receivers names nobody who could be told", hint)
    return found
