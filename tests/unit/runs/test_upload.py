"""A pipeline's versions: what they are called, that they are used again, and whose they are."""

from pathlib import Path

import pytest

from tokka.errors import TokkaError
from tokka.runs.upload import Build, upload_pipeline, version_name

COMMIT, DIGEST, OTHER = "0123456789abcdef0123", "d" * 64, "e" * 64


@pytest.mark.parametrize(
    ("commit", "existing", "name"),
    [
        (COMMIT, {}, "0123456789ab"),
        (COMMIT, {"0123456789ab": DIGEST}, "0123456789ab"),
        (COMMIT, {"0123456789ab": OTHER}, "0123456789ab-dddddddd"),
        (COMMIT, {"0123456789ab": ""}, "0123456789ab-dddddddd"),
        (f"{COMMIT}-dirty", {}, "0123456789ab-dirty-dddddddd"),
        ("", {}, "no-commit-dddddddd"),
    ],
)
def test_a_version_is_named_by_its_commit_and_by_its_file_where_that_is_not_enough(commit, existing, name):
    assert version_name(commit, DIGEST, existing) == name


def test_a_version_is_uploaded_once(fake, server, settings):
    first, second = upload_pipeline("retrain", settings, server), upload_pipeline("retrain", settings, server)
    assert first == second
    assert fake.count("POST .*upload_version") == 1
    assert [one.name for one in fake.versions.values()] == [first.version]


def test_the_pipeline_of_somebody_else_is_left_alone(fake, server, settings):
    upload_pipeline("retrain", settings, server)
    (version,) = fake.versions.values()
    version.pipeline_spec["pipelineInfo"]["name"] = "churn-model"
    with pytest.raises(TokkaError, match=r"not Tokka's: it holds churn-model") as refused:
        upload_pipeline("retrain", settings, server)
    assert "rename or delete" in refused.value.hint


def test_a_name_that_is_taken_where_it_cannot_be_seen_is_said_to_be(fake, server, settings):
    fake.fail("POST /apis/v2beta1/pipelines$", 409, "The name retrain already exists")
    with pytest.raises(TokkaError, match=r"the name is taken \(409\): The name retrain already exists"):
        upload_pipeline("retrain", settings, server)


def test_of_two_that_upload_at_once_the_second_takes_the_first_s(fake, server, settings):
    upload_pipeline("retrain", settings, server)
    # It looked before the other had uploaded.
    empty = '{"pipeline_versions": []}'
    path = "GET /apis/v2beta1/pipelines/[^/]+/versions$"
    fake.fail(path, 200, body=empty, times=2)
    assert upload_pipeline("retrain", settings, server).version_id in fake.versions
    assert len(fake.versions) == 1


def test_a_profile_and_an_image_are_compiled_in(fake, server, settings, tmp_path):
    ours = settings.model_copy(update={"root": Path.cwd(), "home": tmp_path})
    plain, built = (upload_pipeline("rollout", ours, server, build) for build in (Build(), Build("gpu", "other:1")))
    assert plain.version != built.version
    assert "other:1" in str(built.document)
