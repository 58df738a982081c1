"""Write requirements.lock: exact versions with hashes, with both builds of torch.

    make lock

An index or folder with a CPU build of torch serves `2.13.0+cpu`, the public index `2.13.0`: the lock names the
public version and accepts the files of either. uv checks every hash that the lock gives; what the platform's own
build of torch needs beyond it (CUDA libraries) is pinned by torch itself.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements.lock"
HEADER = "# Made by `make lock` from pyproject.toml; do not edit.\n"


def compile_requirements(*arguments: str) -> str:
    """Run `uv pip compile` and return what it resolved, with hashes and without comments."""
    command = ["uv", "pip", "compile", "--python-version", "3.11", "--generate-hashes", "--no-annotate"]
    command += ["--no-header", "--quiet", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def hashes(block: str) -> set[str]:
    """Every hash of a requirement."""
    return set(re.findall(r"--hash=(sha256:[0-9a-f]{64})", block))


def main() -> None:
    """Compile twice, and let torch's entry accept the hashes of both builds."""
    links = ["--find-links", sys.argv[1]] if len(sys.argv) > 1 and sys.argv[1] else []
    text = compile_requirements("pyproject.toml", "--group", "dev", *links)
    public = Path(ROOT / "build" / "torch.in")
    public.parent.mkdir(exist_ok=True)
    public.write_text(
        next(line.strip(' ",\n') for line in (ROOT / "pyproject.toml").open() if '"torch==' in line) + "\n"
    )
    published = re.search(r"^torch==.*?(?=^\S)", compile_requirements(str(public)) + "\nend", re.S | re.M)
    chosen = re.search(r"^torch==.*?(?=^\S)", text, re.S | re.M)
    if published is None or chosen is None:
        raise SystemExit("uv resolved no torch: check the pin in pyproject.toml")
    version = re.sub(r"\+.*", "", chosen.group(0).split()[0])
    both = " \\\n".join(
        f"    --hash={digest}" for digest in sorted(hashes(published.group(0)) | hashes(chosen.group(0)))
    )
    LOCK.write_text(HEADER + text.replace(chosen.group(0), f"{version} \\\n{both}\n"))


if __name__ == "__main__":
    main()
