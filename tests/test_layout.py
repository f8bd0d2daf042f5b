"""The house: dependencies point one way, and the folder mlflow/ shadows nothing."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from heartdata.sources.table.columns import USUAL_NAMES

ROOT = Path(__file__).parents[1]
FORBIDDEN = {"heartdata": {"prefect", "mlflow", "tasks", "flows"}, "tasks": {"flows"}}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_dependencies_point_one_way(package: str):
    files = list((ROOT / package).rglob("*.py"))
    assert files
    assert {p.name: bad for p in files if (bad := imported(p) & FORBIDDEN[package])} == {}


def test_sources_know_nothing_of_what_is_done_with_recordings():
    allowed = {"errors", "remote", "schemas", "settings", "sources", "store", "synth"}
    pattern = re.compile(r"^\s*(?:from|import) heartdata(?:\.(\w+)| import (\w+))", re.MULTILINE)
    files = (ROOT / "heartdata" / "sources").glob("*.py")
    modules = {file.name: {a or b for a, b in pattern.findall(file.read_text())} for file in files}
    assert any(modules.values())
    assert {name: bad for name, found in modules.items() if (bad := found - allowed)} == {}


def test_the_mlflow_folder_shadows_nothing():
    assert not (ROOT / "mlflow" / "__init__.py").exists()
    code = "import mlflow; print(mlflow.__version__)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.stdout.startswith("3.")


def test_no_file_is_too_long():
    files = [
        p for d in ("heartdata", "tasks", "flows", "mlflow", "tests", "benchmarks") for p in (ROOT / d).rglob("*.py")
    ]
    assert {p.name: n for p in files if (n := len(p.read_text().splitlines())) > 400} == {}


def test_the_usual_column_names_stand_in_the_docs():
    page = (ROOT / "docs" / "sources.md").read_text()
    for role, usual in USUAL_NAMES.items():
        assert f"| {role} | {', '.join(f'`{name}`' for name in usual)} |" in page
