"""Change values in params.yaml line by line: comments, order and everything else stay as they are.

text = edited(path.read_text(), {"finetuning.learning_rate": 2e-4, "finetuning.augmentation.word_dropout": 0.1})
print(unified_diff(before, text, "params.yaml"))
"""

import difflib
import re
from collections.abc import Mapping, Sequence

import yaml

from tokka.errors import UsageError

LINE = re.compile(r"(?P<indent> *)(?P<key>[\w.-]+):(?P<gap> *)(?P<value>[^#\n]*?)(?P<rest>\s*(?:#.*)?)$")


def edited(text: str, values: Mapping[str, float]) -> str:
    """The file's text with these values under their dotted keys; a key that is not there is added to its section.

    Raises:
        UsageError: the section is not there or written in one line, or the result would not mean these values.
    """
    lines = text.splitlines()
    for name, value in values.items():
        _set(lines, name.split("."), _written(value), name)
    result = "\n".join(lines) + "\n"
    for name, value in values.items():
        found = yaml.safe_load(result)
        for part in name.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        if found != value:
            raise UsageError(f"{name} cannot be set to {value:g} in this file", "write it there by hand")
    return result


def unified_diff(before: str, after: str, name: str) -> str:
    """What `git apply` takes; empty when nothing changed."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{name}", f"b/{name}"
    )
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _set(lines: list[str], keys: list[str], value: str, name: str) -> None:
    """Replace the value behind nested keys, or add the last key at the end of its section's header."""
    start, end, indent, header = 0, len(lines), -1, -1
    for depth, key in enumerate(keys):
        found = _find(lines, key, start, end, indent)
        if found is None:
            if header < 0:
                raise UsageError(f"params.yaml has no section for {name}", "write the key there by hand")
            _add(lines, header, _child_indent(lines, start, end, indent) or indent + 2, keys[depth:], value)
            return
        match = LINE.match(lines[found])
        assert match  # _find gives only lines that match
        if depth == len(keys) - 1:
            old = match["value"]
            # A trailing comment stays in its column where there is room.
            rest = match["rest"]
            spare = len(old) - len(value)
            if rest.lstrip().startswith("#"):
                space = max(2, len(rest) - len(rest.lstrip()) + spare)
                rest = " " * space + rest.lstrip()
            lines[found] = f"{match['indent']}{key}:{match['gap'] or ' '}{value}{rest}"
            return
        if match["value"].strip():
            raise UsageError(f"{'.'.join(keys[: depth + 1])} stands in one line", f"write {name} there by hand")
        indent, header, start = len(match["indent"]), found, found + 1
        end = _end(lines, start, end, indent)


def _add(lines: list[str], header: int, indent: int, keys: Sequence[str], value: str) -> None:
    """Put keys that are not there yet below their section's header, each within the one before."""
    new = [f"{' ' * (indent + 2 * place)}{key}:" for place, key in enumerate(keys)]
    new[-1] += f" {value}"
    lines[header + 1 : header + 1] = new


def _find(lines: list[str], key: str, start: int, end: int, above: int) -> int | None:
    """The line of a direct child key, deeper than `above`."""
    depth = _child_indent(lines, start, end, above)
    for number in range(start, end):
        match = LINE.match(lines[number])
        if match and match["key"] == key and len(match["indent"]) == depth:
            return number
    return None


def _child_indent(lines: list[str], start: int, end: int, above: int) -> int | None:
    for line in lines[start:end]:
        match = LINE.match(line)
        if match and len(match["indent"]) > above:
            return len(match["indent"])
    return None


def _end(lines: list[str], start: int, end: int, indent: int) -> int:
    """Where the block that began above `start` stops: the first key that is not deeper."""
    for number in range(start, end):
        match = LINE.match(lines[number])
        if match and len(match["indent"]) <= indent:
            return number
    return end


def _written(value: float) -> str:
    """YAML reads 1e-04 as a word: digits instead."""
    return (
        f"{value:.10f}".rstrip("0") + ("0" if float(value).is_integer() else "")
        if isinstance(value, float)
        else str(value)
    )
