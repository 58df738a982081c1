"""What users wrote is shown as they wrote it, also in square brackets, which mean styles to the terminal."""

import io

from rich.console import Console

from tokka.cli import overview, review

ODD = "please [/b] cancel [red]my[/ops] order"


def shown(table):
    out = Console(file=io.StringIO(), width=200)
    out.print(table)
    return out.file.getvalue()


def test_texts_that_want_labels():
    entry = {"id": "1", "text": ODD, "text_pair": None, "champion": "[/a]", "challenger": "b"}
    assert ODD in shown(review._labels_table([entry])) and "[/a]" in shown(review._labels_table([entry]))


def test_reasons_of_decisions():
    decision = {"time": 0.0, "version": "2", "phase": "step", "share": 0.1, "action": "roll_back", "reasons": [ODD]}
    assert ODD in shown(overview._decisions([decision]))


def test_a_user_without_a_name_can_use_the_command_line(monkeypatch):
    """As in a container that is run with a number as its user."""

    def nobody():
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(review.getpass, "getuser", nobody)
    assert review._me() == ""
