"""The storage container's part: an address of a model, its verified files in a folder, or a refusal that is loud."""

from pathlib import Path

import pytest

from tests.unit.registry.conftest import make_settings
from tests.unit.registry.test_publish import PASS, Case
from tokka.errors import Refused, TokkaError, UsageError
from tokka.registry import signing
from tokka.registry.model_uri import ModelUri, fetch_model


@pytest.fixture
def case(settings, params, tmp_path) -> Case:
    found = Case(settings, params, tmp_path)
    found.decide(PASS)
    found.register()
    return found


def address(case: Case, **other: str) -> str:
    named = case.registry.version("1").digest
    return str(ModelUri(**{"endpoint": case.params.registry.model, "version": "1", "digest": named, **other}))


@pytest.mark.parametrize("text", ["", "s3://b/k", "tokka://desk/1", "tokka://desk/x/" + "a" * 64, "tokka://d/1/abc"])
def test_what_is_no_address_is_named(text):
    with pytest.raises(UsageError, match="no address"):
        ModelUri.parse(text)


def test_the_files_come_verified_into_a_folder_that_is_a_mount(case, tmp_path):
    folder = tmp_path / "mnt"
    folder.mkdir()
    (folder / "config.json").write_text("of an earlier start")
    fetch_model(address(case), folder, case.settings)
    assert signing.verify(folder, case.settings)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*(path.name for path in case.model.iterdir()), signing.SIGNATURE]
    )


def test_a_digest_that_the_registry_does_not_name_is_refused(case, tmp_path):
    with pytest.raises(Refused, match="digest"):
        fetch_model(address(case, digest="0" * 64), tmp_path / "mnt", case.settings)
    assert not (tmp_path / "mnt").exists()


def test_an_artifact_that_was_altered_is_refused_and_nothing_is_left(case, tmp_path):
    (case.artifact("model") / "tokenizer.json").write_text('{"evil": 1}')
    pod = make_settings(tmp_path / "pod").model_copy(
        update={"tracking_uri": case.settings.tracking_uri, "verify_key": case.settings.verify_key}
    )
    with pytest.raises(Refused, match="not what was signed"):
        fetch_model(address(case), tmp_path / "mnt", pod)
    assert not (tmp_path / "mnt").exists()


def test_a_version_that_is_not_there_is_named(case, tmp_path):
    with pytest.raises(TokkaError, match="7"):
        fetch_model(address(case, version="7"), Path(tmp_path / "mnt"), case.settings)
