"""The licences of the direct dependencies, for docs/security.md.

python -m benchmarks.licences
"""

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = Path(__file__).parents[1]


def direct_dependencies() -> dict[str, str]:
    """Names of pyproject.toml's dependencies, to the extra that they belong to or nothing."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    found: dict[str, str] = {}
    for extra, requirements in groups.items():
        for requirement in map(Requirement, requirements):
            if requirement.name != project["name"]:
                found.setdefault(requirement.name, extra)
    return found


def licence(name: str) -> str:
    """What the installed package says of its licence: an SPDX expression, else the first line of a text, else classifiers."""
    try:
        metadata = distribution(name).metadata
    except PackageNotFoundError:
        return "not installed"
    classifiers = [c.rpartition(" :: ")[2] for c in metadata.get_all("Classifier", []) if c.startswith("License ::")]
    text = metadata.get("License-Expression") or (metadata.get("License") or "").strip().partition("\n")[0]
    return text.strip() or ", ".join(classifiers) or "not stated"


def table() -> str:
    """A row a package, as Markdown."""
    rows = [f"| {name} | {extra} | {licence(name)} |" for name, extra in sorted(direct_dependencies().items())]
    return "\n".join(["| package | extra | licence |", "| --- | --- | --- |", *rows])


def in_docs(page: str) -> dict[str, str]:
    """Packages of the table in the documentation, and their extras."""
    return dict(re.findall(r"^\| ([\w.-]+) \| (\w*) \| [^|]+ \|$", page, re.MULTILINE))


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
