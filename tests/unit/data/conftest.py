"""Files and settings for the tests of data."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.data.corpus import ROOT, SHARED
from tokka.settings import Settings


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """Write content to a file of the test's own folder."""

    def to(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return to


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of the project's root with a home of the test's own."""
    return Settings.from_environment({"TOKKA_ROOT": str(ROOT), "TOKKA_HOME": str(tmp_path / "home")})


@pytest.fixture
def shared() -> Path:
    """The real data sets; they are never copied into the project."""
    if not SHARED.is_dir():
        pytest.skip("the shared data sets are not here")
    return SHARED
