"""The drawing, the table of libraries and the list of stages in docs/architecture.md are those of the code."""

import ast
import re
from pathlib import Path

import grimp
import networkx as nx
import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGES = ("heartdata", "tasks", "flows")
# Functions of tasks that the flow calls, and that are no stages
NO_STAGES = {"run_store", "label_each", "last_accepted", "what_waits", "initial_weights", "usage_note"}
NAMES = {"find_near_duplicates": "near-duplicates", "summarise": "summary", "ensemble": "[ensemble]"}


# The id of each package's box in the drawing
BOXES = {
    name if name.split(".")[0] in PACKAGES else f"heartdata.{name}": box
    for box, packages in re.findall(r'^ +(\w+)\["<b>(.*?)</b>', PAGE, re.M)
    for name in packages.split(", ")
}


def box_of(module: str) -> str | None:
    """The box of the innermost package that is drawn; None for a library."""
    parts = module.split(".")
    names = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((BOXES[name] for name in names if name in BOXES), None)


@pytest.fixture(scope="module")
def imports() -> set[tuple[str, str]]:
    """Each module and one that it imports: modules of the project, or names of libraries."""
    graph = grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)
    own = [name for name in graph.modules if name.split(".")[0] in PACKAGES and name != "heartdata"]  # its public names
    return {(name, to) for name in own for to in graph.find_modules_directly_imported_by(name)}


def test_every_module_is_in_a_box(imports: set[tuple[str, str]]):
    assert {module for module, _ in imports if not box_of(module)} == set()


def test_the_arrows_are_the_imports_less_those_that_others_imply(imports: set[tuple[str, str]]):
    arrows = {(box_of(module), box_of(to)) for module, to in imports if box_of(to)}
    graph = nx.DiGraph([(box, to) for box, to in arrows if box != to])
    assert nx.is_directed_acyclic_graph(graph)
    drawn = re.findall(r"^ +(\w+) --> (\w+)$", PAGE, re.M)
    assert sorted(drawn) == sorted(nx.transitive_reduction(graph).edges)


def test_each_library_is_imported_by_the_parts_that_the_table_names(imports: set[tuple[str, str]]):
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\w., ]+?) \|", PAGE, re.M))
    assert {"prefect", "mlflow", "great_expectations", "librosa", "fastai"} <= rows.keys()
    for library, parts in rows.items():
        importing = {box_of(module) for module, to in imports if to == library}
        assert {part.removeprefix("flows.") for part in parts.split(", ")} == importing, library


def called(function: str, functions: dict[str, ast.FunctionDef]) -> list[str]:
    """The functions that one calls, in the order of the code, with those of the same module replaced by what they call."""
    calls = [
        node for node in ast.walk(functions[function]) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    names = [call.func.id for call in sorted(calls, key=lambda call: (call.end_lineno, call.end_col_offset))]
    return [each for name in names for each in (called(name, functions) if name in functions else [name])]


def test_the_stages_are_those_that_the_flow_calls_in_this_order():
    tree = ast.parse((ROOT / "flows" / "pipeline.py").read_text(encoding="utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    modules = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module.startswith("tasks.")]
    tasks = {alias.name for node in modules for alias in node.names if alias.name.islower()} - NO_STAGES
    stages = [NAMES.get(name, name) for name in dict.fromkeys(called("heartbeat", functions)) if name in tasks]
    (block,) = re.findall(r"^```\n(inventory .*?)^```$", PAGE, re.M | re.S)
    assert re.split(r"\s+→\s+", block.strip()) == stages
