import shutil
from pathlib import Path

import pytest

from tests.unit.data.corpus import ROOT, Write, params_for, texts
from tokka.data import rows
from tokka.data.preparation import stage, versioning
from tokka.data.rows import Row
from tokka.errors import Refused, TokkaError
from tokka.params import Params
from tokka.settings import Settings

pytestmark = pytest.mark.slow


def validated(folder: Path, params: Params, labels: str = "ab") -> Path:
    """A folder as `validate_source` leaves it, without Great Expectations."""
    made = [Row(text, target=labels[number % len(labels)]) for number, text in enumerate(texts(90))]
    rows.write(folder / "rows.parquet", rows.to_table(made, params.task))
    for name in rows.OFFICIAL:
        rows.write(folder / f"{name}.parquet", rows.to_table([], params.task))
    return folder


def home(tmp_path: Path, name: str) -> Settings:
    return Settings.from_environment(
        {"TOKKA_ROOT": str(ROOT), "TOKKA_HOME": str(tmp_path / name), "TOKKA_REMOTE": str(tmp_path / "remote")}
    )


def test_computed_once_then_kept_then_fetched_elsewhere_and_the_same_as_by_hand(tmp_path: Path) -> None:
    params = params_for("x.csv")
    source = validated(tmp_path / "rows", params)
    first = versioning.preprocess(source, params, home(tmp_path, "one"), tmp_path / "a")
    assert first["origin"] == "computed"
    assert first["dvc_md5"] in first["lock"]
    assert (tmp_path / "a/dvc.lock").read_text() == first["lock"]
    assert versioning.verify(tmp_path / "a", params) == first["digest"]

    again = versioning.preprocess(source, params, home(tmp_path, "one"), tmp_path / "b")
    assert (again["origin"], again["digest"]) == ("store", first["digest"])

    elsewhere = versioning.preprocess(source, params, home(tmp_path, "two"), tmp_path / "c")
    assert (elsewhere["origin"], elsewhere["digest"], elsewhere["lock"]) == ("fetched", first["digest"], first["lock"])

    by_hand = tmp_path / "hand"
    shutil.copytree(source, by_hand / stage.VALIDATED)
    assert stage.run_preprocess(by_hand, params)["digest"] == first["digest"]


def test_remote_that_hands_out_changed_bytes_is_not_believed(tmp_path: Path) -> None:
    params = params_for("x.csv")
    source = validated(tmp_path / "rows", params)
    first = versioning.preprocess(source, params, home(tmp_path, "one"), tmp_path / "a")
    for path in (tmp_path / "remote/files").rglob("*"):
        if path.is_file() and not path.name.endswith(".dir"):
            path.chmod(0o600)
            path.write_bytes(path.read_bytes()[:-1] + b"?")
    second = versioning.preprocess(source, params, home(tmp_path, "two"), tmp_path / "b")
    assert (second["origin"], second["digest"]) == ("computed", first["digest"])


def test_refusal_of_the_stage_is_repeated_in_its_own_words(tmp_path: Path) -> None:
    params = params_for("x.csv")
    with pytest.raises(Refused, match=r"at least 2 classes, found 1 \('a'\)"):
        versioning.preprocess(validated(tmp_path / "rows", params, "a"), params, home(tmp_path, "one"), tmp_path / "a")
    assert not (tmp_path / "one/store").exists()


def test_remote_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "remote").write_text("a file, not a folder")
    params = params_for("x.csv")
    with pytest.raises(TokkaError, match="DVC remote") as error:
        versioning.preprocess(validated(tmp_path / "rows", params), params, home(tmp_path, "one"), tmp_path / "a")
    assert "\n" not in error.value.message


def test_folder_without_rows(tmp_path: Path) -> None:
    with pytest.raises(TokkaError, match=r"rows\.parquet does not exist"):
        versioning.preprocess(tmp_path, params_for("x.csv"), home(tmp_path, "one"), tmp_path / "a")


def test_changed_rows_do_not_verify(tmp_path: Path, write: Write) -> None:
    params = params_for("x.csv")
    shutil.copytree(validated(tmp_path / "rows", params), tmp_path / "hand" / stage.VALIDATED)
    stage.run_preprocess(tmp_path / "hand", params)
    made = tmp_path / "hand" / stage.PREPARED
    shutil.copyfile(made / "train.parquet", tmp_path / "t.parquet")
    table = rows.load(made / "train.parquet")
    column = table["target"].to_pylist()
    column[0] = "b" if column[0] == "a" else "a"
    rows.write(made / "train.parquet", table.set_column(2, "target", [column]))
    with pytest.raises(TokkaError, match="has digest"):
        versioning.verify(made, params)


def test_a_remote_in_s3_gives_what_it_was_sent(tmp_path: Path, bucket: str) -> None:
    params = params_for("x.csv")
    source = validated(tmp_path / "rows", params)

    def at(name: str) -> Settings:
        return home(tmp_path, name).model_copy(update={"remote": f"{bucket}/dvc"})

    first = versioning.preprocess(source, params, at("one"), tmp_path / "a")
    second = versioning.preprocess(source, params, at("two"), tmp_path / "b")
    assert (first["origin"], second["origin"]) == ("computed", "fetched")
    assert (first["digest"], first["lock"]) == (second["digest"], second["lock"])
