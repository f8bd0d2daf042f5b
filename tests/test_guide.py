"""The code in docs/development.md compiles and uses names that exist, and the files it names exist."""

import ast
import builtins
import importlib
import re
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "development.md").read_text(encoding="utf-8")
TREES = [ast.parse(dedent(block)) for block in re.findall(r"^ *```python\n(.*?)^ *```$", GUIDE, re.M | re.S)]
FILES = set(re.findall(r"`((?:heartdata|tasks|flows|tests|docs|mlflow|benchmarks)/[\w/.-]*)`", GUIDE))
CREATED = {"sidecar", "label_counts"}  # the modules that the guide's examples create


def defined(tree: ast.AST) -> set[str]:
    """Every name that code defines or imports."""
    nodes = [n for n in ast.walk(tree) if not (isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load))]
    return {getattr(n, field) for n in nodes for field in ("asname", "name", "arg", "id") if getattr(n, field, None)}


def test_the_names_that_the_guides_code_imports_or_uses_exist():
    own = set().union(*map(defined, TREES))
    known = {name for path in FILES if (ROOT / path).suffix == ".py" and (ROOT / path).exists()
             for name in defined(ast.parse((ROOT / path).read_text(encoding="utf-8")))}  # fmt: skip
    for tree in TREES:
        assert {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} <= defined(tree) | known | set(dir(builtins))
        for node in (n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)):
            root, *_, last = f"{node.module}.{node.module}".split(".")
            if root in {"heartdata", "tasks", "flows", "helpers"} and last not in CREATED:
                module = importlib.import_module(node.module)
                assert [a.name for a in node.names if not hasattr(module, a.name) and a.name not in own] == []


def test_the_files_that_the_guide_names_exist():
    present = {path for path in FILES if Path(path).stem.removeprefix("test_") not in CREATED}
    assert [path for path in sorted(present) if not (ROOT / path).exists()] == []
