"""The house: where files stand, how long they are, and that folders do not import in a circle."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

SRC, UNIT = Path("src/tokka"), Path("tests/unit")
# Files of folders, lines of files and of functions.
SIZES_ARE_JUDGED = True
FILES, FILE_LINES, FUNCTION_LINES = range(4, 15), 300, 45

judged = pytest.mark.skipif(not SIZES_ARE_JUDGED, reason="SIZES_ARE_JUDGED is off in tests/test_layout.py")


def test_a_test_stands_where_the_module_stands_that_it_tests():
    wrong = [str(path) for path in UNIT.rglob("test_*.py") if not is_in_place(path)]
    assert wrong == []


def test_folders_import_in_no_circle():
    graph = grimp.build_graph("tokka", cache_dir=None)
    packages = {name for name in graph.modules if (Path("src") / name.replace(".", "/")).is_dir()}

    def house(module: str) -> str:
        """The folder that holds a module; what stands at the root is a house of its own."""
        parent = module if module in packages else module.rpartition(".")[0]
        return module if parent == "tokka" else parent

    needs: dict[str, set[str]] = {house(name): set() for name in graph.modules}
    for importer in graph.modules:
        needs[house(importer)] |= {house(name) for name in graph.find_modules_directly_imported_by(importer)}
    try:
        graphlib.TopologicalSorter({one: others - {one} for one, others in needs.items()}).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


@judged
def test_a_folder_has_as_many_files_as_one_idea_needs():
    counts = {str(folder): sum(path.is_file() for path in folder.iterdir()) for folder in folders()}
    assert {folder: count for folder, count in counts.items() if count not in FILES} == {}


@judged
def test_a_file_can_be_read_in_one_go():
    counts = {str(path): len(path.read_text().splitlines()) for path in SRC.rglob("*.py")}
    assert {path: count for path, count in counts.items() if count > FILE_LINES} == {}


@judged
def test_a_function_can_be_seen_at_once():
    counts = {f"{path}:{one.lineno} {one.name}": lines(one) for path in SRC.rglob("*.py") for one in functions(path)}
    assert {function: count for function, count in counts.items() if count > FUNCTION_LINES} == {}


def is_in_place(test: Path) -> bool:
    """Whether the module is there whose folder and name a test has; an aspect of it may follow the name."""
    folder, words = test.parent.relative_to(UNIT), test.stem.split("_")[1:]
    root = folder if folder.parts[:1] == ("benchmarks",) else SRC / folder
    return any((root / f"{'_'.join(words[:end])}.py").exists() for end in range(1, len(words) + 1))


def folders() -> Iterator[Path]:
    yield from (path for path in [SRC, *SRC.rglob("*")] if path.is_dir() and any(path.glob("*.py")))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1
