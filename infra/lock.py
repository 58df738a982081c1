"""Write the three locks: exact versions with hashes, the same version of a package in each.

    make lock

| File                       | For                                      |
|----------------------------|------------------------------------------|
| requirements.lock          | a checkout: everything, tests included   |
| infra/docker/pipeline.lock | the image `pipeline`                     |
| infra/docker/server.lock   | the image `server`: no torch, no kfp     |

An index or folder with a CPU build of torch serves `2.13.0+cpu`, the public index `2.13.0`: the locks name the
public version and accept the files of either. uv checks every hash that a lock gives; what the platform's own
build of torch needs beyond it (CUDA libraries) is pinned by torch itself.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements.lock"
IMAGES = {"pipeline": ["--extra", "pipeline"], "server": []}
HEADER = "# Made by `make lock` from pyproject.toml; do not edit.\n"
TORCH = re.compile(r"^torch==.*?(?=^\S)", re.S | re.M)


def compile_requirements(*arguments: str) -> str:
    """Run `uv pip compile` and return what it resolved, with hashes and without comments."""
    command = ["uv", "pip", "compile", "--python-version", "3.11", "--generate-hashes", "--no-annotate"]
    command += ["--no-header", "--quiet", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout + "\n"


def hashes(block: str) -> set[str]:
    """Every hash of a requirement."""
    return set(re.findall(r"--hash=(sha256:[0-9a-f]{64})", block))


def published_torch() -> str:
    """torch's entry as the public index resolves it."""
    wanted = ROOT / "build" / "torch.in"
    wanted.parent.mkdir(exist_ok=True)
    pin = next(line.strip(' ",\n') for line in (ROOT / "pyproject.toml").open() if '"torch==' in line)
    wanted.write_text(pin + "\n")
    found = TORCH.search(compile_requirements(str(wanted)) + "end")
    if found is None:
        raise SystemExit("uv resolved no torch: check the pin in pyproject.toml")
    return found.group(0)


def accept_both(text: str, published: str) -> str:
    """Let torch's entry accept the files of both builds; a lock without torch stays as it is."""
    chosen = TORCH.search(text)
    if chosen is None:
        return text
    version = re.sub(r"\+.*", "", chosen.group(0).split()[0])
    both = sorted(hashes(published) | hashes(chosen.group(0)))
    return text.replace(chosen.group(0), " \\\n".join([version, *(f"    --hash={digest}" for digest in both)]) + "\n")


def main() -> None:
    """Resolve everything once, then each image's part of it within those versions."""
    links = ["--find-links", sys.argv[1]] if len(sys.argv) > 1 and sys.argv[1] else []
    published, held = published_torch(), ROOT / "build" / "held.txt"
    everything = compile_requirements("pyproject.toml", "--extra", "pipeline", "--group", "dev", *links)
    held.write_text(re.sub(r" \\\n(    --hash=\S+( \\)?\n)+", "\n", everything))
    LOCK.write_text(HEADER + accept_both(everything, published).rstrip() + "\n")
    for name, extras in IMAGES.items():
        text = compile_requirements("pyproject.toml", *extras, "--constraint", str(held), *links)
        (ROOT / "infra" / "docker" / f"{name}.lock").write_text(HEADER + accept_both(text, published).rstrip() + "\n")


if __name__ == "__main__":
    main()
