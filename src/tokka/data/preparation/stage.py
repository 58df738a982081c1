"""The step as DVC's stage runs it: in a folder with a params.yaml, from build/rows to build/prepared."""

import shutil
import sys
from pathlib import Path

from tokka import files, progress
from tokka.data import rows
from tokka.data.preparation import preprocessing
from tokka.errors import TokkaError
from tokka.params import Params, load_params

VALIDATED = Path("build/rows")
INPUTS = ("rows.parquet", *(f"{name}.parquet" for name in rows.OFFICIAL))
PREPARED = Path("build/prepared")
REFUSAL = Path("build/refusal.json")


def run_preprocess(folder: Path, params: Params | None = None) -> dict[str, object]:
    """Prepare build/rows into build/prepared, with a manifest of sha256 and size of every file.

    The manifest is inside DVC's output, since DVC itself checks out a corrupted cache file without a word. Raises what
    `preprocessing.prepare` does, and TokkaError without build/rows.
    """
    params, out = params or load_params(folder / "params.yaml"), folder / PREPARED
    shutil.rmtree(out, ignore_errors=True)
    summary = prepare_validated(folder / VALIDATED, params, out)
    files.seal(out)
    return summary


def prepare_validated(validated: Path, params: Params, out: Path) -> dict[str, object]:
    """`preprocessing.prepare` on a folder that `validate_source` wrote."""
    if not (validated / "rows.parquet").is_file():
        raise TokkaError(f"{validated} holds no rows.parquet", "run `tokka stage validate_data` first")
    source = rows.stream(validated / "rows.parquet", params.task)
    official = {
        name: rows.stream(validated / f"{name}.parquet", params.task)
        for name in rows.OFFICIAL
        if getattr(params.data, name)
    }
    return preprocessing.prepare(source, official.get("test"), params, out, official.get("validation"))


def main(folder: Path) -> int:
    """Run the stage for DVC; a refusal is left in a file, since DVC passes on no more than an exit code."""
    (folder / REFUSAL).unlink(missing_ok=True)
    try:
        run_preprocess(folder)
    except TokkaError as error:
        files.write_json(folder / REFUSAL, progress.describe(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(Path.cwd()))
