"""tokka consume: one more consumer of asynchronous jobs."""

import typer

from tokka.cli.console import DEFAULT_PARAMS, Overrides, ParamsFile, load
from tokka.errors import UsageError
from tokka.settings import Settings

app = typer.Typer()


@app.command()
def consume(params: ParamsFile = DEFAULT_PARAMS, overrides: Overrides = None) -> None:
    """Consume jobs from the broker's queue until Ctrl-C: ask the endpoint, keep the result, acknowledge.

    The stack of `tokka up` runs one consumer by itself; this is one more. Messages are Avro (job.avsc). Results are
    kept where the stack's gateway looks for them: in the jobs.db of the same TOKKA_HOME, or, from another home or
    machine, in the database that TOKKA_JOBS_URL names for both. The gateway is asked at TOKKA_HOST and TOKKA_PORT; one
    that asks for a key gets the one in TOKKA_KEY.

    Example: `TOKKA_BROKER=amqp://user:password@127.0.0.1:5672/ tokka consume`
    """
    import asyncio

    from tokka.jobs.process import log_lines, run

    parsed, settings = load(params, overrides)
    broker = settings.broker or parsed.serving.asynchronous.broker or ""
    settings = settings.model_copy(update={"broker": broker})
    if broker:
        require_reader(settings)
    log_lines(parsed.registry.model)
    asyncio.run(run(parsed, settings))


def require_reader(settings: Settings) -> None:
    """Check that a stack reads results where this consumer would keep them.

    Raises:
        UsageError: they would lie in a home whose stack takes no jobs.
    """
    from tokka.jobs.process import SECRET

    if settings.jobs_url != Settings.jobs_at(settings.home) or (settings.home / SECRET).exists():
        return
    raise UsageError(
        f"results would be kept in {settings.home}/jobs.db, and no stack that takes jobs has ever run in that home",
        "set TOKKA_HOME to the stack's home; from another machine, set TOKKA_JOBS_URL to one PostgreSQL "
        "database, here and for `tokka up`",
    )
