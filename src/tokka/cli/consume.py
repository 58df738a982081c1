"""tokka consume: one more consumer of asynchronous jobs."""

import typer

from tokka.cli.console import DEFAULT_PARAMS, Overrides, ParamsFile, load


def add_to(app: typer.Typer) -> None:
    """Hang the command on the application."""
    app.command()(consume)


def consume(params: ParamsFile = DEFAULT_PARAMS, overrides: Overrides = None) -> None:
    """Consume jobs from the broker's queue until Ctrl-C: ask the endpoint, keep the result, acknowledge.

    The stack of `tokka up` runs one consumer by itself; this is one more. Messages are Avro (job.avsc), results are
    kept in the home's jobs.db. A gateway that asks for a key gets the one in TOKKA_KEY.

    Example: `TOKKA_BROKER=amqp://user:password@127.0.0.1:5672/ tokka consume`
    """
    import asyncio

    from tokka.serving.asynchronous.process import Options, run

    parsed, settings = load(params, overrides)
    wanted = parsed.serving.asynchronous
    settings = settings.model_copy(update={"broker": settings.broker or wanted.broker or ""})
    options = Options(
        name=parsed.registry.model, tries=wanted.tries, concurrent=wanted.concurrent,
        result_days=wanted.result_days, give_up_hours=wanted.give_up_hours,
    )  # fmt: skip
    asyncio.run(run(options, settings))
