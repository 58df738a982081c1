"""The images, in containers: the ones that TOKKA_TEST_TAG names, as `make image` builds them; skipped by name without.

DOCKER    the client, by default `docker`
"""

import os
import subprocess
import uuid
from collections.abc import Callable

import pytest

DOCKER = os.environ.get("DOCKER", "docker")
# Some user, a root file system that nobody writes to, no rights: as a cluster with the strictest rules runs it.
CONFINED = [
    "--user", "12345:12345", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt",
    "no-new-privileges", "--network", "none",
]  # fmt: skip
Run = Callable[..., str]


@pytest.fixture(scope="session")
def tag() -> str:
    found = os.environ.get("TOKKA_TEST_TAG") or pytest.skip("TOKKA_TEST_TAG names no images: make image TAG=…")
    for target in ("pipeline", "server"):
        asked = subprocess.run([DOCKER, "image", "inspect", f"tokka/{target}:{found}"], capture_output=True, text=True)
        if asked.returncode != 0:
            pytest.skip(f"Docker has no image tokka/{target}:{found}: {asked.stderr.strip()}")
    return found


@pytest.fixture
def confined(tag: str) -> Run:
    """Runs a command in an image, confined, and returns what it printed."""

    def run(target: str, *command: str, options: tuple[str, ...] = ()) -> str:
        name = f"tokka-test-{uuid.uuid4().hex[:8]}"
        try:
            return subprocess.run(
                [DOCKER, "run", "--rm", "--name", name, *CONFINED, *options, f"tokka/{target}:{tag}", *command],
                capture_output=True, text=True, check=True, timeout=300,
            ).stdout  # fmt: skip
        except subprocess.CalledProcessError as error:
            raise AssertionError(f"{error.stdout}\n{error.stderr}") from None
        finally:
            subprocess.run([DOCKER, "rm", "--force", name], capture_output=True, check=False)

    return run
