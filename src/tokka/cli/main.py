"""The command line. `tokka --help` lists every command; each `--help` ends with an example."""

import os
import sys

import typer
from typer.exceptions import TyperException

from tokka.cli import ab, hooks, jobs, keys, project, remote, review, run, stack
from tokka.cli.console import INTERRUPTED, report_error
from tokka.errors import UsageError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Turn a general pretrained transformer into a specialist for your domain, prove that it is better, "
    "ship it by a canary that fails safe, and retrain it when the world drifts.\n\n"
    "Start with `tokka sample` and `tokka run`. Exit codes: 0 done, 1 failed, 2 wrong use, 3 refused by a gate.",
)
for module in (run, project, stack, remote, jobs, hooks):
    app.add_typer(module.app)
app.add_typer(stack.deploy, name="deploy")
app.add_typer(review.app, name="review")
app.add_typer(ab.app, name="ab")
app.add_typer(keys.app, name="keys")


def main() -> None:
    """Run one command; whatever goes wrong becomes one line and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that does not know a character, or a file's name that is no text, ends no command.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # of a process they are TextIOWrapper
    sys.exit(call(sys.argv[1:]))


def call(arguments: list[str]) -> int:
    """`main` as a function: the exit code of a command line."""
    as_json = "--json" in arguments
    try:
        result = app(arguments, standalone_mode=False)
        # Typer turns Ctrl-C into this code.
        interrupted = result == INTERRUPTED
        return report_error(KeyboardInterrupt(), as_json) if interrupted else result if isinstance(result, int) else 0
    except typer.Abort:
        return report_error(KeyboardInterrupt(), as_json)
    except TyperException as error:
        context = getattr(error, "ctx", None)
        message = error.format_message().replace("Value error, ", "")
        if not message:
            return 0
        return report_error(
            UsageError(message, f"see `{context.command_path if context else 'tokka'} --help`"), as_json
        )
    except (BrokenPipeError, SystemExit):
        # Whoever read has seen enough, as `head` has: rich says so by SystemExit. What is left goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except BaseException as error:
        return report_error(error, as_json)


if __name__ == "__main__":
    main()
