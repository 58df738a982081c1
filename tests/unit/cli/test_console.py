"""What is shown is what was written: no markup, no commands to the terminal; and any terminal takes it."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tokka.cli import console, tables
from tokka.cli.console import Terminal
from tokka.settings import Settings

ODD = "[red]a[/b] \x1b[31mred\x1b]0;title\x07 :bug: \u202egnp.exe <b>x</b>"


def printed(*shown: object, width: int = 200) -> str:
    out = Terminal(stderr=False)
    out.file, out.width = io.StringIO(), width
    for one in shown:
        out.print(one)
    return out.file.getvalue()


def test_a_text_is_shown_as_it_is() -> None:
    table = tables.table("text", title="t")
    table.add_row(ODD)
    for shown in (printed(ODD), printed(table)):
        assert "[red]a[/b] ␛[31mred" in shown
        assert ":bug:" in shown
        assert not set("\x1b\x07\u202e") & set(shown)


def test_the_table_of_a_run_whose_first_row_holds_markup() -> None:
    answer = {"text": ODD, "label": "[/]", "model_version": "1"}
    final = {
        "cached": False,
        "run_id": "0f3a9c",
        "steps": [],
        "metrics": {},
        "gate": {"verdict": "pass", "reasons": [ODD]},
        "answer": answer,
    }
    shown = printed(tables.run_summary(final, 1.0))
    assert shown.count("[red]a[/b]") == 2
    assert [line.split()[-1] for line in shown.splitlines() if "run id" in line] == ["0f3a9c"]


def test_an_error_with_markup_in_its_path(capsys: pytest.CaptureFixture[str]) -> None:
    assert console.report_error(console.TokkaError("no /tmp/x[/b]", "try [red]"), as_json=False) == 1
    assert "no /tmp/x[/b]" in capsys.readouterr().err


def test_what_the_machine_refuses_is_no_defect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = PermissionError(13, "Permission denied", str(tmp_path / "rows.csv"))
    assert console.report_error(error, as_json=False) == 1
    said = capsys.readouterr().err
    assert "rows.csv: Permission denied" in said
    assert "defect" not in said


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_any_terminal_takes_it(tmp_path: Path, encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "TOKKA_HOME": str(tmp_path / "ünï[b] x"), "LC_ALL": "C"}
    command = [sys.executable, "-m", "tokka.cli.main", "keys", "list"]
    run = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr
    command = [*command[:-2], "doctor", "--params", str(tmp_path / "gone→.yaml")]
    run = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert run.returncode == 2
    assert b"does not exist" in run.stderr


def test_without_home_and_account_libraries_get_tokkas_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that is run with a number as its user."""

    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("HOME", "")
    monkeypatch.setattr(Path, "home", nobody)
    console._give_libraries_a_home(Settings.from_environment({"TOKKA_HOME": str(tmp_path)}))
    assert os.environ["HOME"] == str(tmp_path)
