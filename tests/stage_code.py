"""Record the code behind each stage's version, as digests in ``stage_code.json``.

After a change of that code: raise the version of each stage whose results change, in ``tasks/engine/versions.py``, then run
``python tests/stage_code.py``, which records the code as it is now. Needs nothing but Python.
"""

import ast
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tasks.engine.versions import STAGES  # noqa: E402 (needs the path)

RECORD = Path(__file__).with_name("stage_code.json")
COMMAND = "python tests/stage_code.py"
Recorded = dict[str, list[str]]


def digest(source: str) -> str:
    """A digest of Python code that comments, docstrings, formatting and imports do not change."""
    return hashlib.sha256(json.dumps(_shape(ast.parse(source))).encode()).hexdigest()[:12]


def _shape(node: Any) -> Any:
    """A syntax tree as lists, without empty fields, so that it is the same in all versions of Python."""
    if isinstance(node, list):
        return [_shape(item) for item in node if not _is_ignored(item)]
    if isinstance(node, ast.AST):
        fields = [(name, _shape(value)) for name, value in ast.iter_fields(node) if value not in (None, [])]
        return [type(node).__name__, fields]
    return repr(node)


def _is_ignored(node: Any) -> bool:
    """Whether a statement is an import or a string by itself, as docstrings are."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return True
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def path_of(module: str) -> Path:
    """The file of a module of this project, or of a path in it, such as that of a template."""
    if "/" in module:
        return ROOT / module
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def code_of(modules: tuple[str, ...]) -> dict[str, str]:
    """The digest of each module or other file. Names are not recorded, so that a module may be moved."""
    return {name: _digest_of(path_of(name)) for name in modules}


def _digest_of(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    return digest(text) if path.suffix == ".py" else hashlib.sha256(text.encode()).hexdigest()[:12]


def changes(recorded: Recorded) -> list[str]:
    """A sentence for each stage whose code is not as recorded."""
    sentences = []
    for stage, code in STAGES.items():
        now, before = code_of(code.modules), recorded.get(stage, [])
        if sorted(now.values()) != before:
            names = [name for name, value in now.items() if value not in before] or ["a module that was removed"]
            sentences.append(
                f"the code of stage {stage!r} changed ({', '.join(names)}): raise its version in tasks/engine/versions.py if "
                f"its results change; then, or if they are the same, confirm with `{COMMAND}`"
            )
    return sentences


def main() -> None:
    """Record the code as it is now."""
    now = {stage: sorted(code_of(code.modules).values()) for stage, code in STAGES.items()}
    RECORD.write_text(json.dumps(now, indent=1) + "\n")


if __name__ == "__main__":
    main()
