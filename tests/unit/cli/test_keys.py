"""`tokka keys`: the secret is shown once, a list shows none, a revoked key is seen as such."""

import json

import pytest

from tokka.cli.main import call


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKKA_HOME", str(tmp_path))
    return tmp_path


def last_line(capsys):
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def test_a_key_s_life(capsys):
    assert call(["keys", "create", "crm", "--scope", "predict", "--days", "30", "--json"]) == 0
    made = last_line(capsys)
    assert call(["keys", "list", "--json"]) == 0
    out = capsys.readouterr().out
    assert made["secret"] not in out
    (row,) = json.loads(out.strip().splitlines()[-1])["keys"]
    assert (row["id"], row["scopes"], row["state"]) == (made["id"], "predict", "active")
    assert call(["keys", "revoke", made["id"]]) == 0
    capsys.readouterr()
    assert call(["keys", "list", "--json"]) == 0
    assert last_line(capsys)["keys"][0]["state"] == "revoked"


def test_wrong_use_is_one_line(capsys):
    assert call(["keys", "create", "crm", "--scope", "root"]) == 2
    assert "predict, feedback, admin" in capsys.readouterr().err
    assert call(["keys", "revoke", "nobody"]) == 1
    assert "tokka keys list" in capsys.readouterr().err
