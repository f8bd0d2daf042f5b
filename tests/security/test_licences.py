"""The table of licences in the documentation is of the dependencies of pyproject.toml."""

import runpy
from pathlib import Path

PROJECT = Path(__file__).parents[2]
LICENCES = runpy.run_path(str(PROJECT / "benchmarks" / "licences.py"))
DOCS = (PROJECT / "docs" / "security.md").read_text(encoding="utf-8")


def test_the_documented_packages_are_those_of_pyproject():
    documented = LICENCES["in_docs"](DOCS)
    documented.pop("package")  # the head of the table
    assert documented == LICENCES["direct_dependencies"]()
    assert "not stated" not in DOCS


def test_a_licence_is_read_from_the_package():
    assert LICENCES["licence"]("prefect") == "Apache-2.0"
    assert LICENCES["licence"]("no-such-package") == "not installed"
