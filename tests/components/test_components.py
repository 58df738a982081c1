"""The components stay thin: a body imports, loads, calls and saves, and imports nothing heavy at its top."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "components"
FILES = sorted(path for path in FOLDER.glob("*.py") if path.name != "__init__.py")
STEPS = {path.stem for path in (FOLDER.parent / "src/tokka/steps").glob("*.py")}


def body(path):
    (function,) = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    return function


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_one_step_has_one_noun_everywhere(path):
    assert body(path).name == path.stem
    # The search is no step of a run.
    assert path.stem in STEPS | {"tune"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_body_is_short_and_decides_nothing(path):
    statements = [node for node in ast.walk(body(path)) if isinstance(node, ast.stmt)][1:]
    work = [node for node in statements if not isinstance(node, ast.Import | ast.ImportFrom)]
    assert len(work) <= 10
    assert not [node for node in work if isinstance(node, ast.If | ast.While | ast.Try)]


def test_compiling_imports_nothing_heavy():
    # `lark` comes with a format of jsonschema, and made every process that imports kfp two seconds slower.
    heavy = ["torch", "mlflow", "lightning", "great_expectations", "evidently", "transformers", "sklearn", "lark"]
    code = (
        "import sys, pipelines.compile, pipelines.retrain; "
        f"print([name for name in {heavy} if name in sys.modules])"
    )  # fmt: skip
    found = subprocess.run([sys.executable, "-c", code], cwd=FOLDER.parent, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
