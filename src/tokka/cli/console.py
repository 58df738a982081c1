"""What every command shares: options, the last JSON line, live progress, and errors as one line.

Progress and tables go to standard error when `--json` is given, so that standard output ends with one object.
"""

import errno
import functools
import inspect
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Concatenate, ParamSpec, TypeAlias

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from tokka.errors import TokkaError
from tokka.files import Tree, unreadable
from tokka.params import Params, load_params
from tokka.settings import Settings

ParamsFile = Annotated[Path, typer.Option("--params", help="The experiment's parameters.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Override one parameter, such as finetuning.epochs=2. Repeatable.")
]
Json = Annotated[bool, typer.Option("--json", help="End standard output with one JSON object.")]
INTERRUPTED = 130
# What the machine refuses: its user can mend it, and its message names the file.
NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ELOOP, errno.ENAMETOOLONG)
DEFAULT_PARAMS = Path("params.yaml")
P = ParamSpec("P")
# What a message may hold and a terminal would obey: its control characters, and what turns the direction of reading.
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
IN_ASCII = str.maketrans({"✓": "+", "✗": "x", "→": "->", "…": "...", "─": "-", "±": "+-", "≥": ">=", "≤": "<="})


class Terminal(Console):
    """Shows every text as it is: nothing that a row, a label or a path holds is a style or a command to it."""

    def __init__(self, *, stderr: bool, soft_wrap: bool = False) -> None:
        super().__init__(stderr=stderr, soft_wrap=soft_wrap, highlight=False, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """The segments of rich, control characters shown by their pictures (␛)."""
        for segment in super().render(renderable, options):
            text = OBEYED.sub(_picture, segment.text)
            if not self.encoding.startswith("utf"):
                text = text.translate(IN_ASCII)
            yield segment if segment.control else Segment(text, segment.style)


def _picture(sign: re.Match[str]) -> str:
    return chr(0x2400 + ord(sign[0])) if sign[0] < " " else "\ufffd"


def verdict_sign(well: bool) -> tuple[str, str]:
    """✓ or ✗ in its colour, as a part of `Text.assemble`."""
    return ("✓", "green") if well else ("✗", "red")


@dataclass
class Call:
    """One command: its settings, its parameters as soon as they are asked for, and where people and scripts read."""

    settings: Settings
    file: Path
    overrides: Sequence[str]
    as_json: bool

    @property
    def path(self) -> Path:
        """The file of the parameters; a relative one is looked for here, then in the project's root."""
        return self.file if self.file.is_absolute() or self.file.exists() else self.settings.root / self.file

    @functools.cached_property
    def params(self) -> Params:
        """The parameters, with what --set laid over them."""
        return load_params(self.path, self.overrides)

    @property
    def out(self) -> Console:
        """Where people read: standard output, or standard error when scripts read the former."""
        return Terminal(stderr=self.as_json)

    def conclude(self, value: object, *shown: RenderableType) -> None:
        """End the command: `shown` for people, and `value` as the JSON line when scripts read."""
        for part in shown:
            self.out.print(part)
        if self.as_json:
            print_json_line(value)


Command: TypeAlias = Callable[Concatenate[Call, P], int | None]


def command(
    app: typer.Typer, name: str | None = None, without: Sequence[str] = ()
) -> Callable[[Command[P]], Command[P]]:
    """Make a command of a function whose first argument is a `Call`, with the options --params, --set and --json.

    `without`: which of `params`, `overrides` and `json` it does not take.
    """
    types = {"params": (ParamsFile, DEFAULT_PARAMS), "overrides": (Overrides, None), "json": (Json, False)}
    shared = [
        inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for option, (annotation, default) in types.items()
        if option not in without
    ]

    def register(function: Command[P]) -> Command[P]:
        @functools.wraps(function)
        def run(
            params: Path = DEFAULT_PARAMS, overrides: list[str] | None = None, json: bool = False, **own: object
        ) -> int | None:
            call = Call(Settings.from_environment(), params, overrides or (), json)
            _give_libraries_a_home(call.settings)
            return function(call, **own)  # type: ignore[call-arg,arg-type]  # Typer has checked them

        signature = inspect.signature(function)
        own = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in [*signature.parameters.values()][1:]]
        run.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]  # as documented
        app.command(name)(run)
        return function

    return register


def _give_libraries_a_home(settings: Settings) -> None:
    """TOKKA_HOME, where a user without an entry in passwd has no HOME, as in a container: MLflow fails without."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(settings.home)


def print_json_line(value: object) -> None:
    """The one line that scripts read; it is the last of standard output."""
    print(json.dumps(value, default=str, allow_nan=False), flush=True)


def with_source(params: Params, source: str) -> Params:
    """What `--set data.source=` would give."""
    return params.model_copy(update={"data": params.data.model_copy(update={"source": source})})


class Progress:
    """Prints a run's events: a line when a step ends, and its progress while it works."""

    def __init__(self, out: Console) -> None:
        self.out = out
        self._status = out.status("") if out.is_terminal else None
        self._last = 0.0

    def __call__(self, event: Tree) -> None:
        """Show one event."""
        kind, step = event["event"], event["step"]
        if kind == "progress":
            self._show(f"{step}: {event['message']}", event.get("fraction"))
        elif kind == "started":
            self._show(f"{step} …", None)
        elif kind in ("done", "failed"):
            self.out.print(Text.assemble(verdict_sign(kind == "done"), f" {step:<14} {event['seconds']:6.1f} s"))

    def _show(self, message: str, fraction: float | None) -> None:
        text = Text.assemble(message, (f"  {fraction:4.0%}" if fraction is not None else "", "dim"))
        if self._status is not None:
            self._status.update(text)
            self._status.start()
        elif time.monotonic() - self._last > 5:
            self.out.print(Text.assemble("  ", text))
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
    out = Terminal(stderr=True, soft_wrap=True)
    if isinstance(error, KeyboardInterrupt):
        out.print(Text.assemble(("interrupted", "yellow"), "; the same command goes on where this one stopped"))
        return INTERRUPTED
    if isinstance(error, OSError) and error.filename and error.errno in NOT_OURS:
        error = unreadable(error)
    if not isinstance(error, TokkaError):
        path = _keep_traceback(error)
        error = TokkaError(f"this is a defect of Tokka: {type(error).__name__}: {error}", f"report it with {path}")
    word = "refused" if error.exit_code == 3 else "error"
    out.print(Text.assemble((f"{word}: ", "red"), error.message))
    if error.hint:
        out.print(Text(f"  → {error.hint}", "dim"))
    if as_json:
        print_json_line({"error": error.message, "hint": error.hint, "exit_code": error.exit_code})
    return error.exit_code


def _keep_traceback(error: BaseException) -> Path:
    home = Path(os.environ.get("TOKKA_HOME") or ".tokka").resolve()
    path = home / "logs" / f"crash-{int(time.time())}-{os.getpid()}.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8", errors="replace")
    except OSError:
        traceback.print_exception(error, file=sys.stderr)
    return path
