import shutil
import subprocess
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tokka import provenance
from tokka.params import Params, parse_params

DIGESTS = st.text(alphabet="0123456789abcdef", min_size=64, max_size=64)


@given(DIGESTS, DIGESTS)
def test_every_part_changes_the_key(source, base):
    key = provenance.run_key(Params(), source_digest=source, base_digest=base)
    assert key == provenance.run_key(Params(), source_digest=source, base_digest=base)
    assert key != provenance.run_key(Params(), source_digest=source + "0", base_digest=base)
    assert key != provenance.run_key(Params(), source_digest=source, base_digest=base + "0")
    other = parse_params({"canary": {"alpha": 0.04}})
    assert key != provenance.run_key(other, source_digest=source, base_digest=base)


def test_where_the_data_lies_does_not_change_the_key():
    here, there = parse_params({"data": {"source": "a.csv"}}), parse_params({"data": {"source": "/b.csv"}})
    assert provenance.params_digest(here) == provenance.params_digest(there)


def test_a_step_ignores_the_parameters_of_later_steps():
    first, other = Params(), parse_params({"gate": {"alpha": 0.01}, "canary": {"steps": [0.5]}})
    assert provenance.step_key("finetune", first, "d") == provenance.step_key("finetune", other, "d")
    trained = parse_params({"finetuning": {"epochs": 1}})
    assert provenance.step_key("finetune", first, "d") != provenance.step_key("finetune", trained, "d")
    assert provenance.step_key("preprocess", first, "d") == provenance.step_key("preprocess", trained, "d")


def test_the_commit_says_when_files_differ_from_it(tmp_path):
    assert provenance.git_commit(tmp_path) == ""
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    clean = provenance.git_commit(tmp_path)
    assert len(clean) == 40
    (tmp_path / "file").write_text("1")
    subprocess.run(["git", "-C", str(tmp_path), "add", "file"], check=True)
    assert provenance.git_commit(tmp_path) == clean + "-dirty"


def test_another_form_is_another_run_and_the_same_training():
    first, other = Params(), parse_params({"export": {"serve": "fp32"}})
    inputs = {"source_digest": "s", "base_digest": "b"}
    assert provenance.run_key(first, **inputs) != provenance.run_key(other, **inputs)
    assert provenance.step_key("finetune", first, "d") != provenance.step_key("finetune", other, "d")
    assert provenance.step_key("training", first, "d") == provenance.step_key("training", other, "d")


def test_a_change_of_the_search_makes_no_training_stale_and_one_of_the_network_does(tmp_path, monkeypatch):
    root = shutil.copytree(Path(provenance.__file__).parent, tmp_path / "tokka")
    monkeypatch.setattr(provenance, "__file__", str(root / "provenance.py"))

    def keys():
        provenance.code_version.cache_clear()
        return [provenance.step_key(step, Params(), "d") for step in ("training", "finetune")]

    before = keys()
    with (root / "tuning" / "search.py").open("a") as file:
        file.write("# another search\n")
    assert keys() == before
    with (root / "model" / "network.py").open("a") as file:
        file.write("# another network\n")
    after = keys()
    assert all(one != other for one, other in zip(before, after, strict=True))
    monkeypatch.undo()
    provenance.code_version.cache_clear()


def test_what_was_submitted_and_is_not_what_is_here_is_said():
    here = {"key": "a" * 32, "source": "b" * 64}
    assert [*provenance.as_submitted({"key": "", "source": ""}, here), *provenance.as_submitted({}, here)] == []
    assert [one.well for one in provenance.as_submitted(here, here)] == [True, True]
    key, data = provenance.as_submitted({"key": "c" * 32, "source": "b" * 64}, here)
    assert (key.well, data.well) == (False, True)
    assert key.found == "cccccccccccc was submitted, here it is aaaaaaaaaaaa"
    assert "the commit that the image is built of" in key.hint
