"""Settings from a YAML file and the command line: layering, and messages that name the wrong key."""

import json
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_jsonable_python
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from heartdata.config import RunConfig, expand_shorthand, source_options
from heartdata.errors import ConfigError
from heartdata.settings import contains_password, deep_merge, describe_settings, holds_password, unflatten
from heartdata.sources import SOURCES, needs_data

HIDDEN = "(not shown, as it contains a password)"


def build_config(
    source: str | None = None,
    data: str | None = None,
    file: Path | None = None,
    changes: dict[str, Any] | None = None,
    base: dict[str, Any] | None = None,
) -> RunConfig:
    """A run's configuration: defaults, the source's preset, ``base``, ``file`` (YAML), command line; the last wins.

    The command line is ``source``, ``data`` and ``changes``, dotted keys to values (``{"training.epochs": 3}``). Raises
    `ConfigError` naming the key.
    """
    arguments: dict[str, Any] = {"source": {k: v for k, v in (("name", source), ("data", data)) if v is not None}}
    arguments = deep_merge(arguments, unflatten(changes or {}))
    values: dict[str, Any] = {}
    for layer in (base or {}, _read_yaml(file) if file else {}, arguments):
        values = _overlay(values, expand_shorthand(layer))
    if data is not None and values["source"].get("name", "demo") == "demo":
        others = ", ".join(name for name in SOURCES if needs_data(name) and name != "table")
        raise ConfigError(
            f"--data needs a source: add --source table (or {others}); the default, demo, makes its own recordings"
        )
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError("; ".join(_message(e) for e in error.errors())) from error


def parse_change(text: str) -> tuple[str, Any]:
    """``training.epochs=3`` to a key and a typed value (read as YAML). Raises `ConfigError`."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {text!r} is not of the form key=value, such as training.epochs=3")
    try:
        return key.strip(), parse_yaml(value) if value else ""
    except ValueError as error:
        raise ConfigError(f"--set {text!r}: the value cannot be read: {error}") from error


def options_of(config: RunConfig) -> list[str]:
    """The options of `heartbeat run` and `heartbeat up` that give ``config``, except for its store and its webhook."""
    source = config.source
    named = source if source.name == "mix" else source.model_dump(include={"name", "data"})
    plain = RunConfig.model_validate({"source": named})
    unchanged = {key: value for key, value, _ in describe_settings(plain)}
    options = source_options(source)
    for key, value, _ in describe_settings(config):
        if key not in ("store", "notice.webhook_url") and (key not in unchanged or unchanged[key] != value):
            options += ["--set", f"{key}={_typed(value)}"]
    return options


def _typed(value: Any) -> str:
    """A setting's value as `parse_change` reads it: YAML, of which JSON is a part; a word without quotes."""
    value = to_jsonable_python(value)
    is_word = isinstance(value, str) and re.fullmatch(r"[A-Za-z/][\w./:@-]*", value) and parse_yaml(value) == value
    return value if is_word else json.dumps(value)


def parse_yaml(text: str) -> Any:
    """The value of a YAML 1.2 document, in which ``yes``, ``no``, ``on`` and ``off`` are strings.

    Raises ValueError with a message of one line, which names the line in the document where that is known.
    """
    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{line}{error.problem}") from error
    except YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        values = parse_yaml(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"the configuration {file} cannot be read: {error}") from error
    if not isinstance(values or {}, dict):
        raise ConfigError(f"the configuration {file} must be a mapping of keys, such as 'training: {{epochs: 3}}'")
    return values or {}


def _overlay(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`deep_merge`, except that the section ``source`` of ``base`` is dropped when ``over`` names another source."""
    old, new = base.get("source", {}).get("name"), over["source"].get("name")
    return deep_merge({**base, "source": {}} if old and new and old != new else base, over)


def _message(error: Any) -> str:
    """One sentence for one of pydantic's errors, with the dotted key."""
    path, source = [HIDDEN if contains_password(str(part)) else str(part) for part in error["loc"]], ""
    if len(path) > 1 and path[0] == "source" and path[1] in SOURCES:  # pydantic inserts the chosen source
        source = path.pop(1)
    key, text = ".".join(path), error["msg"].removeprefix("Value error, ")
    if not key:  # of several sections
        return text
    if error["type"] == "extra_forbidden":
        return f"unknown configuration key {key!r}{_suggestion(path, source)}"
    if error["type"] == "missing":
        return f"{key} is needed" + (": give it with --data" if key == "source.data" else "")
    if error["type"] == "secret":  # never show the value
        return f"{key} {text}"
    hidden = holds_password(error["input"])
    return f"{key} = {HIDDEN if hidden else repr(error['input'])}: {text}"


def _suggestion(path: list[str], source: str) -> str:
    """The key that was probably meant, or all keys of its section."""
    section: Any = RunConfig
    for part in path[:-1]:
        field = getattr(section, "model_fields", {}).get(part)
        section = SOURCES.get(source) if part == "source" else field.annotation if field else None
    names = list(getattr(section, "model_fields", ()))
    close = get_close_matches(path[-1], names, n=1)
    return f": did you mean {close[0]}?" if close else f"; the keys are {', '.join(names)}" if names else ""
