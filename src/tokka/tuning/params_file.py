"""Change values in params.yaml and keep its comments, order and quotes (ruamel.yaml's round trip)."""

import difflib
import io
from collections.abc import Mapping

from ruamel.yaml import YAML, ScalarNode
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.util import load_yaml_guess_indent

from tokka.errors import UsageError

# No line is folded.
WIDTH = 1_000_000


class _Representer(RoundTripRepresenter):
    """Writes new numbers in full, for PyYAML takes 1e-05 for a text, and `null` as the file has it."""

    def represent_none(self, data: None) -> ScalarNode:
        """`null`, not the empty value."""
        return self.represent_scalar("tag:yaml.org,2002:null", "null")

    def represent_float(self, data: float) -> ScalarNode:
        """0.00001, 2.0."""
        digits = f"{data:.10f}".rstrip("0")
        return self.represent_scalar("tag:yaml.org,2002:float", digits + "0" * digits.endswith("."))


_Representer.add_representer(float, _Representer.represent_float)
_Representer.add_representer(type(None), _Representer.represent_none)


def edited(text: str, values: Mapping[str, float]) -> str:
    """The file's text with these values under their dotted keys, added to their section where they are not there.

    UsageError when it cannot be read, or has no such section.
    """
    yaml = YAML()
    yaml.Representer = _Representer
    yaml.preserve_quotes, yaml.width = True, WIDTH
    try:
        tree, indent, offset = load_yaml_guess_indent(text, yaml=yaml)
    except YAMLError as error:
        raise UsageError(f"params.yaml cannot be read: {error}", "correct it") from None
    yaml.indent(mapping=indent or 2, sequence=indent or 2, offset=offset or 0)
    for name, value in values.items():
        _set(tree, name, value)
    stream = io.StringIO()
    yaml.dump(tree, stream)
    return stream.getvalue()


def unified_diff(before: str, after: str, name: str) -> str:
    """What `git apply` takes; empty when nothing changed."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{name}", f"b/{name}"
    )
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _set(tree: object, name: str, value: float) -> None:
    section, *parts, last = name.split(".")
    if not isinstance(tree, CommentedMap) or section not in tree:
        raise UsageError(f"params.yaml has no section for {name}", "write the key there by hand")
    place = tree
    for part in (section, *parts):
        if place.get(part) is None:
            _put(place, part, CommentedMap())
        place = place[part]
    _put(place, last, value)


def _put(place: CommentedMap, key: str, value: object) -> None:
    if key in place:
        place[key] = value
    else:
        place.insert(0, key, value)
