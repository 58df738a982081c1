"""Which TOKKA_HOME there may be."""

from pathlib import Path

import pytest

from tokka.errors import UsageError
from tokka.settings import Settings


@pytest.mark.parametrize("name", ["a,b", "feature%2Fx", "a?b", "a#b", 'a"b', "a'b", "a\\b", "a\nb", "a$b"])
def test_a_home_that_a_tool_cannot_name_is_refused_with_the_character(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"TOKKA_HOME=.* which DVC, SQLite or HAProxy cannot take") as caught:
        Settings.from_environment({"TOKKA_HOME": str(tmp_path / name)})
    assert "TOKKA_HOME=" in caught.value.hint


@pytest.mark.parametrize("name", ["my home", "ünï", "家", "x[b]", "a+b", "(1)", "a@b", "~x"])
def test_other_homes_are_taken_as_they_are(tmp_path: Path, name: str) -> None:
    assert Settings.from_environment({"TOKKA_HOME": str(tmp_path / name)}).home == tmp_path / name
