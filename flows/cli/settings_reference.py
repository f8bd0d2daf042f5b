"""The page docs/settings-reference.md: every setting with its values, default and meaning, made from the typed settings.

.venv/bin/python -m flows.cli.settings_reference > docs/settings-reference.md
"""

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import typer
from pydantic.fields import FieldInfo

from heartdata.config import RunConfig
from heartdata.markdown import code, escape
from heartdata.settings import Settings, flatten
from heartdata.sources import SOURCES
from heartdata.sources.base import SourceSettings
from heartdata.training.pretraining import pretraining_settings

INTRODUCTION = """\
# Settings reference

Every setting, made from the code by

```
.venv/bin/python -m flows.cli.settings_reference > docs/settings-reference.md
```

How to set them, and which of several places wins: [settings](settings.md). `heartbeat settings` shows the values that a run
would have.

The end of a name is the unit: `_s` seconds, `_hz` hertz, `_db` decibels, `_gb` 10⁹ bytes, `days` days, `_fraction` a share
from 0 to 1. `null` is no value. Where a [preset](#presets) has another default, it stands below the general one.
"""
HEADER = "| setting | values | default | meaning |\n| --- | --- | --- | --- |"
TYPES = {
    "boolean": "`true` or `false`",
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "null": "`null`",
}
Presets = Mapping[str, Mapping[str, Any]]


def settings_reference() -> str:
    """The whole page, as Markdown."""
    presets = {f"`--source {name}`": flatten(source.preset) for name, source in SOURCES.items()}
    source = RunConfig.model_fields["source"]
    parts = [INTRODUCTION, f"## source\n\n{_sentence(source.description or '')}\n\n{HEADER}"]
    parts += [_row("source.name", " or ".join(map(code, SOURCES)), code("demo"), "the same as `--source`")]
    parts += [*_rows(SourceSettings, "source.", {})]
    for name, settings in SOURCES.items():
        parts += [f"\n### {code(f'source.name: {name}')}\n\n{_docstring(settings)}\n\n{HEADER}"]
        parts += _rows(settings, "source.", {}, {"name", *SourceSettings.model_fields})
    for name, field in RunConfig.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            parts += [f"\n## {name}\n\n{_docstring(field.annotation)}\n\n{HEADER}"]
            parts += _rows(field.annotation, f"{name}.", presets)
    parts += [f"\n## store\n\n{HEADER}", *_rows(RunConfig, "", presets, RunConfig.model_fields.keys() - {"store"})]
    parts += ["\n## Presets\n\nDefaults of a source or command, which any setting of yours overrides.\n"]
    parts += ["| | sets |\n| --- | --- |"]
    pretraining = {"`heartbeat pretrain`": flatten(pretraining_settings("demo"))}
    for name, preset in {**presets, **pretraining}.items():
        changes = ", ".join(f"`{key}={_typed(value)}`" for key, value in preset.items())
        parts += [f"| {name} | {changes or 'nothing'} |"]
    return "\n".join(parts) + "\n"


def _rows(settings: type[Settings], prefix: str, presets: Presets, left_out: Collection[str] = ()) -> Iterator[str]:
    """A row of the table for each setting, those of nested settings included."""
    schemas = settings.model_json_schema()["properties"]
    for name, field in settings.model_fields.items():
        nested = field.annotation
        if name in left_out:
            continue
        if isinstance(nested, type) and issubclass(nested, Settings):
            yield from _rows(nested, f"{prefix}{name}.", presets)
        else:
            key = f"{prefix}{name}"
            yield _row(key, _values(schemas[name]), _default(key, field, presets), _linked(field.description or ""))


def _row(name: str, values: str, default: str, meaning: str) -> str:
    return f"| `{name}` | {values} | {default} | {meaning} |"


def _values(schema: Mapping[str, Any]) -> str:
    """What a setting may be, from its JSON schema."""
    if "anyOf" in schema:
        return " or ".join(map(_values, schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(map(code, schema["enum"]))
    if "prefixItems" in schema:
        return f"list of {len(schema['prefixItems'])}: {', '.join(map(_values, schema['prefixItems']))}"
    if "items" in schema:
        return f"list of {_values(schema['items'])}"
    if "discriminator" in schema:
        return "settings of a source"
    if "additionalProperties" in schema:
        inner = schema["additionalProperties"]
        return f"mapping of names to {'values' if inner is True else _values(inner)}"
    if schema.get("format") == "path":
        return "path"
    return TYPES[schema["type"]] + _range(schema)


def _range(schema: Mapping[str, Any]) -> str:
    if {"minimum", "maximum"} <= schema.keys():
        return f", {schema['minimum']} to {schema['maximum']}"
    signs = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    return "".join(f", {sign} {schema[key]}" for key, sign in signs.items() if key in schema)


def _default(key: str, field: FieldInfo, presets: Presets) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return "from the environment"
    others = defaultdict(list)
    for name, preset in presets.items():
        if key in preset:
            others[_typed(preset[key])].append(name.strip("`").removeprefix("--source "))
    below = [f"{code(value)} with {', '.join(names)}" for value, names in others.items()]
    return "<br>".join([code(_typed(field.default)), *below])


def _typed(value: Any) -> str:
    """A value as it is typed after --set."""
    return value if isinstance(value, str) and value else json.dumps(value, default=str, ensure_ascii=False)


def _docstring(settings: type[Settings]) -> str:
    """A class's docstring on one line, with its names as Markdown code."""
    return _linked(" ".join((settings.__doc__ or "").replace("``", "`").split()))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _linked(text: str) -> str:
    """Text escaped for a table, with the pages that it names as links."""
    spans = re.sub(r"\\`(.*?)\\`", lambda span: code(span[1].replace("\\", "")), escape(text))
    return re.sub(r"docs/(\w+)\.md", r"[\1](\1.md)", spans)


if __name__ == "__main__":
    typer.echo(settings_reference(), nl=False)
