"""The workflow of GitHub and the pipeline of GitLab: what they call exists, and forks get no secrets and no rights."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from tests.manifests.objects import containers, kubectl, pods
from tokka.cli.main import app

GITHUB, GITLAB, RELEASE = (Path("infra/git") / name for name in ("github.yml", "gitlab.yml", "release.yml"))
# Of each file, by its name: a checker, and how it is called.
CHECKERS = {
    GITHUB: [("actionlint",), ("check-jsonschema", "--builtin-schema", "vendor.github-workflows")],
    RELEASE: [("actionlint",), ("check-jsonschema", "--builtin-schema", "vendor.github-workflows")],
    GITLAB: [("check-jsonschema", "--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci")],
}


@pytest.fixture
def workflow():
    return yaml.safe_load(GITHUB.read_text())


@pytest.fixture
def pipeline():
    return yaml.safe_load(GITLAB.read_text())


@pytest.mark.parametrize(
    ("path", "words"), [(GITHUB, {"trigger", "compare"}), (GITLAB, {"trigger", "compare"}), (RELEASE, {"compile"})]
)
def test_every_command_and_option_exists(path, words):
    commands = get_command(app).commands
    called = re.findall(r"\.venv/bin/tokka (\S+)([^|\n]*)", path.read_text())
    assert {name for name, _ in called} == words
    for name, rest in called:
        options = {option for one in commands[name].params for option in one.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= options


@pytest.mark.parametrize(("path", "command"), [(path, one) for path, all_ in CHECKERS.items() for one in all_])
def test_it_is_what_its_host_takes(path, command):
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not on this machine")
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_fork_of_github_gets_neither_secrets_nor_rights(workflow):
    # YAML 1.1 reads the key `on` as true. Never pull_request_target, which gives a fork's code our secrets.
    assert set(workflow[True]) == {"pull_request", "push"}
    assert workflow["permissions"] == {"contents": "read"}
    jobs = workflow["jobs"]
    assert "permissions" not in jobs["compare"]
    comment = jobs["comment"]
    assert "head.repo.full_name == github.repository" in comment["if"]
    assert comment["permissions"] == {"pull-requests": "write"}
    # Who may write runs nothing of what was pushed.
    assert not any("checkout" in str(step.get("uses")) or "tokka" in str(step.get("run", "")).replace("<!-- tokka", "")
                   for step in comment["steps"])  # fmt: skip
    assert jobs["retrain"]["if"] == "github.event_name == 'push'"
    scripts = [step.get("run", "") for job in jobs.values() for step in job["steps"]]
    assert not any("${{" in script for script in scripts), "what others write comes by the environment alone"


def test_a_fork_of_gitlab_writes_no_comment_and_retrains_nothing(pipeline):
    (rule,) = pipeline["comment"]["rules"]
    assert "$CI_MERGE_REQUEST_SOURCE_PROJECT_ID == $CI_PROJECT_ID" in rule["if"]
    assert pipeline["comment"]["variables"]["GIT_STRATEGY"] == "none"
    (rule,) = pipeline["retrain"]["rules"]
    assert '$CI_PIPELINE_SOURCE == "push"' in rule["if"]


def test_only_a_tag_of_this_repository_is_published():
    """A tag is pushed by who may write; what may push to the registry runs nowhere else."""
    release = yaml.safe_load(RELEASE.read_text())
    assert release[True] == {"push": {"tags": ["v*"]}}
    assert release["permissions"] == {"contents": "read"}
    (job,) = release["jobs"].values()
    assert job["permissions"] == {"contents": "write"} and job["environment"] == "release"
    scripts = [step.get("run", "") for step in job["steps"]]
    assert not any("${{" in script for script in scripts)
    assert any("manifests.sh" in script for script in scripts)


def test_the_manifests_of_a_release_name_the_images_by_their_digests(tmp_path):
    kubectl()
    pipeline, server = (f"registry.example/tokka/{name}@sha256:{digit * 64}" for name, digit in
                        (("pipeline", "a"), ("server", "b")))  # fmt: skip
    subprocess.run(["bash", "infra/kubernetes/manifests.sh", pipeline, server, str(tmp_path / "out")], check=True)
    made = {path.stem: [*yaml.safe_load_all(path.read_text())] for path in (tmp_path / "out").iterdir()}
    assert set(made) == {"staging", "production", "serving"}
    assert "0" * 64 not in str(made)
    found = {one["image"] for objects in made.values() for pod in pods(objects) for _, one in containers(pod)}
    assert found == {pipeline, server}
    kinds = {one["kind"]: one for one in made["serving"]}
    assert kinds["ClusterServingRuntime"]["spec"]["containers"][0]["image"] == server
    assert kinds["ClusterStorageContainer"]["spec"]["container"]["image"] == server
    (step,) = {pair["value"] for one in made["production"] for pod in pods([one]) for _, container in containers(pod)
               for pair in container.get("env", []) if pair["name"] == "TOKKA_IMAGE"}  # fmt: skip
    assert step == pipeline
    assert subprocess.run(["git", "diff", "--quiet", "infra/kubernetes/overlays"], check=False).returncode == 0
