"""The errors that reach a user: one line that names the bad value, and one that says what to do next.

TokkaError            exit 1   something outside is not as it must be (a file, a server, a disk)
├── UsageError        exit 2   the command or params.yaml is wrong
└── Refused           exit 3   a gate, an expectation or a judge said no
"""

import re
import sys


def redacted(text: str) -> str:
    """A URI, or a text with one in it, without the password."""
    return re.sub(r"(://[^:/@\s]*:)[^@/\s]+@", r"\1***@", text)


class TokkaError(Exception):
    """Something that the user can mend.

    `message`: one line that names the bad value and what was expected; `hint`: what to do next; printed on a line of
    its own. Neither shows the password of a URI.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = redacted(message)
        self.hint = redacted(hint)
        super().__init__(self.message)

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.message, self.hint)

    def report(self) -> int:
        """Print both lines to standard error, and return the exit code: for processes that have no console of ours."""
        print(f"{self.message}\n{self.hint}", file=sys.stderr, flush=True)
        return self.exit_code


class UsageError(TokkaError):
    """The command line or params.yaml asks for what does not exist."""

    exit_code = 2


class Missing(TokkaError):
    """There is no such thing where it was asked for, and whoever was asked did answer."""


class Refused(TokkaError):
    """A gate did its work: what was offered may not go on."""

    exit_code = 3
