"""Settings from a YAML file and the command line: layers, one over the other, and what is said of a wrong one."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from heartdata.config import RunConfig, merged, source_named
from heartdata.errors import ConfigError
from heartdata.settings import contains_password
from heartdata.sources import SOURCES


def build_config(
    source: str | None = None,
    data: str | None = None,
    file: Path | None = None,
    changes: dict[str, Any] | None = None,
    base: dict[str, Any] | None = None,
) -> RunConfig:
    """A run's configuration: defaults, the source's preset, ``base``, ``file`` (YAML), and last what somebody typed:
    ``source``, ``data`` and ``changes``, dotted keys to values (``{"training.epochs": 3}``).

    Raises `ConfigError` naming the key.
    """
    typed: dict[str, Any] = {"source": {k: v for k, v in (("name", source), ("data", data)) if v is not None}}
    typed = merged(typed, nested(changes or {}))
    values: dict[str, Any] = {}
    for layer in (base or {}, _read_yaml(file) if file else {}, typed):
        values = _laid_over(values, source_named(layer))
    if data is not None and values["source"].get("name", "demo") == "demo":
        raise ConfigError("the source demo makes its recordings: name another source beside --data")
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError("; ".join(_sentence(e) for e in error.errors())) from error


def parse_change(text: str) -> tuple[str, Any]:
    """``training.epochs=3`` to a key and a typed value (read as YAML). Raises `ConfigError`."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {text!r} is not of the form key=value, such as training.epochs=3")
    try:
        return key.strip(), parse_yaml(value) if value else ""
    except ValueError as error:
        raise ConfigError(f"--set {text!r}: the value cannot be read: {error}") from error


def parse_yaml(text: str) -> Any:
    """The value of a YAML 1.2 document, in which ``yes``, ``no``, ``on`` and ``off`` are text.

    Raises ValueError, whose message is one line that names the line of the document where it is known.
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


def nested(changes: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested mappings."""
    found: dict[str, Any] = {}
    for key, value in changes.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        found = merged(found, value)
    return found


def _laid_over(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """As `merged`; but where ``over`` names another source, nothing of the section ``source`` in ``base`` is kept."""
    below, name = base.get("source", {}), over["source"].get("name")
    if name is not None and below.get("name", name) != name:
        base = {**base, "source": {}}
    return merged(base, over)


def _sentence(error: Any) -> str:
    """One fault that pydantic found, as a sentence with the dotted key."""
    place, chosen = [str(part) for part in error["loc"]], ""
    if len(place) > 1 and place[0] == "source" and place[1] in SOURCES:  # pydantic names the chosen source
        chosen = place.pop(1)
    key = ".".join(place)
    if not place:  # of several sections
        return str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        return f"unknown configuration key {key!r}{_did_you_mean(place, chosen)}"
    if error["type"] == "missing":
        return f"{key} is needed" + (": give it with --data" if key == "source.data" else "")
    if error["type"] == "secret":  # never shown
        return f"{key} {error['msg']}"
    shown = "(not shown, as it names a password)" if contains_password(str(error["input"])) else repr(error["input"])
    return f"{key} = {shown}: {error['msg'].removeprefix('Value error, ')}"


def _did_you_mean(place: list[str], source: str) -> str:
    """The key that was probably meant, or those that there are."""
    known: Any = RunConfig
    for part in place[:-1]:
        field = getattr(known, "model_fields", {}).get(part)
        known = SOURCES.get(source) if part == "source" else field.annotation if field else None
    names = list(getattr(known, "model_fields", ()))
    close = get_close_matches(place[-1], names, n=1)
    return f": did you mean {close[0]}?" if close else f"; there are: {', '.join(names)}" if names else ""
