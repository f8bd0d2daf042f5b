"""Write docs/api.md, the reference of what `heartdata` exports, from the signatures and docstrings of the code.

python tests/api_page.py
"""

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from textwrap import dedent
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import heartdata  # noqa: E402 (needs the path)
from heartdata.config import RunConfig  # noqa: E402
from heartdata.settings import Settings  # noqa: E402
from heartdata.sources import SOURCES  # noqa: E402
from heartdata.storage import schemas  # noqa: E402

PAGE = ROOT / "docs" / "api.md"
COMMAND = ".venv/bin/python tests/api_page.py"
INTRODUCTION = f"""\
# API

What `from heartdata import ...` gives; this page is made from the code by `{COMMAND}`. Examples:
[as a library](library.md).

Samples are float32 with full scale 1. Names end in their unit: `_s` seconds, `_hz` hertz, `_bpm` beats a minute. Tables are
Arrow's, with the columns listed [below](#tables), and `to_pandas()` converts them."""
ROOMS = ("audio", "sources", "dataset", "checks", "scoring", "serving", "errors")
WIDTH = 100
QUOTES = "'\""  # around a class that is not yet defined
PRIMITIVES = {"S", "F", "N", "B"}


def api_page() -> str:
    """The whole page, as Markdown."""
    objects = {name: getattr(heartdata, name) for name in heartdata.__all__}
    parts = [INTRODUCTION]
    for room in ROOMS:
        names = [name for name, thing in objects.items() if thing.__module__.split(".")[1] == room]
        names.sort(key=lambda name: (objects[name].__module__, inspect.getsourcelines(objects[name])[1]))
        parts += [f"## heartdata.{room}", _linked(inspect.getdoc(import_module(f"heartdata.{room}")) or "", "")]
        parts += ["\n".join(f"- [`{name}`](#{name.lower()}): {_first_sentence(objects[name])}" for name in names)]
        for name in names:
            parts += [f"### {name}", *_entry(name, objects[name])]
    return "\n\n".join([*parts, *_tables("".join(parts))]) + "\n"


def _first_sentence(thing: Any) -> str:
    return _linked(inspect.getdoc(thing) or "", "").partition("\n\n")[0].replace("\n", " ")


def _entry(name: str, thing: Any) -> Iterator[str]:
    """The signature and docstring of a public name, and of what a class has beside its fields."""
    yield f"```python\n{_signature(name, thing)}\n```"
    yield _linked(inspect.getdoc(thing) or "", name)
    if not inspect.isclass(thing):
        return
    if issubclass(thing, Settings):
        yield f"Fields: [settings reference](settings-reference.md#{_settings_section(thing)})."
    for method, member in vars(thing).items():
        documented = inspect.getdoc(inspect.unwrap(getattr(member, "__func__", member)))
        if method[0] != "_" and documented and (callable(member) or isinstance(member, property | classmethod)):
            if issubclass(thing, Settings) or isinstance(inspect.getattr_static(thing, method), type):
                continue
            yield f"#### {name}.{method}"
            if not isinstance(member, property):
                yield f"```python\n{_signature(method, getattr(member, '__func__', member))}\n```"
            yield _linked(documented, name)


def _settings_section(settings: type[Settings]) -> str:
    """The anchor of a settings class in docs/settings-reference.md."""
    for name, source in SOURCES.items():
        if source is settings:
            return f"sourcename-{name}"
    return next(name for name, field in RunConfig.model_fields.items() if field.annotation is settings)


def _signature(name: str, thing: Any) -> str:
    """The definition as it is written, without its body; the fields of a dataclass are its signature."""
    node = ast.parse(dedent(inspect.getsource(thing))).body[0]
    assert isinstance(node, ast.FunctionDef | ast.ClassDef)
    if isinstance(node, ast.FunctionDef):
        node.args.args = [a for a in node.args.args if a.arg not in ("self", "cls")]
        returns = f" -> {ast.unparse(node.returns).strip(QUOTES)}" if node.returns else ""
        return (
            _formatted(f"def {name}({ast.unparse(node.args)}){returns}: ...").removeprefix("def ").removesuffix(": ...")
        )
    bases = f"({', '.join(map(ast.unparse, node.bases))})" if node.bases else ""
    fields = [ast.unparse(field) for field in node.body if isinstance(field, ast.AnnAssign)]
    if not fields or issubclass(thing, Settings):
        return f"class {name}{bases}"
    return _formatted("\n    ".join([f"class {name}{bases}:", *fields]))


def _formatted(code: str) -> str:
    command = [sys.executable, "-m", "ruff", "format", "--line-length", str(WIDTH), "--no-cache", "-"]
    return subprocess.run(command, input=code, capture_output=True, text=True, check=True).stdout.strip()


def _linked(text: str, own: str) -> str:
    """A docstring as Markdown, in which other public names and the tables are links."""
    text = text.replace("``", "`")
    for name in heartdata.__all__:
        if name != own:
            text = re.sub(rf"(?<!\[)`{name}`", f"[`{name}`](#{name.lower()})", text)
    known = "|".join(name for name, value in vars(schemas).items() if isinstance(value, schemas.pa.Schema))
    return re.sub(rf"`heartdata\.storage\.schemas\.({known})`|\b(?<!`)({known})\b", _table_link, text)


def _table_link(match: re.Match[str]) -> str:
    name = match[1] or match[2]
    return f"[{name}](#{name.lower()})"


def _tables(page: str) -> Iterator[str]:
    """The schemas that ``page`` links to, as they are written, with their comments."""
    source = Path(str(schemas.__file__)).read_text(encoding="utf-8")
    lines = source.splitlines()
    assigned = {
        node.targets[0].id: node
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    yield "## Tables"
    yield "`S` is text, `F` a float, `N` an integer and `B` true or false; each may be null."
    for name, node in assigned.items():
        if f"](#{name.lower()})" in page:
            parts = [
                n.id
                for n in ast.walk(node)
                if isinstance(n, ast.Name) and n.id in assigned.keys() - PRIMITIVES - {name}
            ]
            code = "\n".join(str(ast.get_source_segment(source, assigned[part])) for part in [*parts, name])
            above = lines[node.lineno - 2]
            yield f"### {name}"
            if above.startswith("# "):
                yield above.removeprefix("# ")
            yield f"```python\n{code}\n```"


if __name__ == "__main__":
    PAGE.write_text(api_page(), encoding="utf-8")
