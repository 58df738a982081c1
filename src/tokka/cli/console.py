"""What every command shares: options, the last JSON line, live progress, and errors as one line.

Progress and tables go to standard error when `--json` is given, so that standard output ends with one object.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, RenderableType
from rich.markup import escape

from tokka.errors import TokkaError
from tokka.params import Params, load_params
from tokka.runs.summary import Event
from tokka.settings import Settings

ParamsFile = Annotated[Path, typer.Option("--params", help="The experiment's parameters.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Override one parameter, such as finetuning.epochs=2. Repeatable.")
]
Json = Annotated[bool, typer.Option("--json", help="End standard output with one JSON object.")]
INTERRUPTED = 130
DEFAULT_PARAMS = Path("params.yaml")


def console(as_json: bool) -> Console:
    """Where people read: standard output, or standard error when scripts read the former."""
    return Console(stderr=as_json, highlight=False)


def print_json_line(value: object) -> None:
    """The one line that scripts read; it is the last of standard output."""
    print(json.dumps(value, default=str, allow_nan=False), flush=True)


def conclude(as_json: bool, value: object, *shown: RenderableType, markup: bool = True) -> None:
    """End a command: `shown` for people, and `value` as the JSON line when scripts read."""
    for part in shown:
        console(as_json).print(part, markup=markup)
    if as_json:
        print_json_line(value)


def load(params: Path, overrides: list[str] | None, data: str | None = None) -> tuple[Params, Settings]:
    """Params and settings of a command; `--data` is short for `--set data.source=`."""
    settings = Settings.from_environment()
    given = [*(overrides or []), *([f"data.source={json.dumps(data)}"] if data else [])]
    path = params if params.is_absolute() or params.exists() else settings.root / params
    return load_params(path, given), settings


class Progress:
    """Prints a run's events: a line when a step ends, and its progress while it works."""

    def __init__(self, out: Console) -> None:
        self.out = out
        self.live = out.is_terminal
        self._status = out.status("") if self.live else None
        self._last = 0.0

    def __call__(self, event: Event) -> None:
        """Show one event."""
        kind, step = event["event"], event["step"]
        if kind == "progress":
            self._show(f"{step}: {event['message']}", event.get("fraction"))
        elif kind == "started":
            self._show(f"{step} …", None)
        elif kind in ("done", "failed"):
            sign = "[green]✓[/]" if kind == "done" else "[red]✗[/]"
            self.out.print(f"{sign} {step:<14} {event['seconds']:6.1f} s")

    def _show(self, message: str, fraction: float | None) -> None:
        text = escape(message) + (f"  [dim]{fraction:4.0%}[/]" if fraction is not None else "")
        if self._status is not None:
            self._status.update(text)
            self._status.start()
        elif time.monotonic() - self._last > 5:
            self.out.print(f"  {text}")
            self._last = time.monotonic()

    def close(self) -> None:
        """Give the line back."""
        if self._status is not None:
            self._status.stop()


@contextmanager
def progress(out: Console, settings: Settings) -> Iterator[Progress]:
    """A `Progress` for a run: Ctrl-C leaves the terminal as it was, and no stack up that was not up before."""
    from tokka.stack import stack

    shown, was_up = Progress(out), stack.status(settings) is not None
    try:
        yield shown
    except KeyboardInterrupt:
        if not was_up:
            stack.down(settings)
        raise
    finally:
        shown.close()


def report_error(error: BaseException, as_json: bool) -> int:
    """Print an error the way its reader needs it and return the exit code."""
    out = Console(stderr=True, highlight=False, soft_wrap=True)
    if isinstance(error, KeyboardInterrupt):
        out.print("[yellow]interrupted[/]; the same command goes on where this one stopped")
        return INTERRUPTED
    if not isinstance(error, TokkaError):
        path = _keep_traceback(error)
        error = TokkaError(f"this is a defect of Tokka: {type(error).__name__}: {error}", f"report it with {path}")
    word = "refused" if error.exit_code == 3 else "error"
    out.print(f"[red]{word}:[/] {escape(error.message)}")
    if error.hint:
        out.print(f"  [dim]→ {escape(error.hint)}[/]")
    if as_json:
        print_json_line({"error": error.message, "hint": error.hint, "exit_code": error.exit_code})
    return error.exit_code


def _keep_traceback(error: BaseException) -> Path:
    home = Path(os.environ.get("TOKKA_HOME") or ".tokka").resolve()
    path = home / "logs" / f"crash-{int(time.time())}-{os.getpid()}.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(traceback.format_exception(error)))
    except OSError:
        traceback.print_exception(error, file=sys.stderr)
    return path
