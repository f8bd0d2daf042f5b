"""The base class of all settings: frozen, typed, with a digest; unknown keys and passwords are refused."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, field_validator
from pydantic_core import PydanticCustomError

# a colon not followed by a port number, then an @
_USER_AND_PASSWORD = re.compile(r"[^/?#]*(:|%3a)(?!\d+([/?#]|$)).*(@|%40)", re.I)
_ONE_SLASH = re.compile(r"^([\w+.:-]{2,}):/(?!/)")  # C:/ is a drive
_SECRET_IN_QUERY = re.compile(
    r"[?&;#]([^?&;#=]*(password|passwd|passphrase|secret|token|credential|signature|api_?key|access_?key|private_?key)"
    r"[^?&;#=]*|pass|pwd|auth|sig|key)=",
    re.I,
)


def contains_password(uri: str) -> bool:
    """Whether a URI contains a password, as in s3://user:password@bucket or postgresql://host/name?password=...

    Also with the one slash that `Path` leaves of two.
    """
    protocol, _, place = _ONE_SLASH.sub(r"\1://", uri).partition("://")
    secret = _USER_AND_PASSWORD.match(place) or _SECRET_IN_QUERY.search(unquote(place))
    return protocol not in ("file", "local") and secret is not None


def without_login(uri: str) -> str:
    """A URI without user, password and query, as people may see it, even where an @ of the password is not encoded."""
    return re.sub("//.*@", "//", uri.partition("?")[0])


def without_logins(message: str) -> str:
    """A library's message without users and passwords, whose end is taken for a host's name where an @ is not encoded."""
    return re.sub(r"(?<=//)\S*@|(?<![^\s\"'(])[^\s\"'/]+@", "", message)


def holds_password(value: object) -> bool:
    """Whether a text or path anywhere in a value contains a password. Nested settings have checked their own."""
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple):
        return any(map(holds_password, value))
    return isinstance(value, str | Path) and contains_password(str(value))


def sha256_json(value: object) -> str:
    """Hex sha256 of a value's canonical JSON (sorted keys)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


class Settings(BaseModel):
    """One stage's configuration. Its fields hold the defaults, and nothing else does."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)

    @field_validator("*")
    @classmethod
    def _check_no_password(cls, value: Any) -> Any:
        if holds_password(value):
            raise PydanticCustomError(
                "secret",
                "contains a password, which every run would record: put it into the environment instead, "
                "for S3 as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, for MLflow as MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD (for a database the whole URI, as MLFLOW_TRACKING_URI)",
            )
        return value

    def digest(self) -> str:
        """Hex sha256 of the values, for cache keys and the run record."""
        return sha256_json(self.model_dump(mode="json"))


def describe_settings(settings: Settings, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Dotted name, value and description of every setting."""
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, Settings):
            yield from describe_settings(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value, field.description or ""


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one of dotted keys."""
    dotted: dict[str, Any] = {}
    for name, value in values.items():
        dotted |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return dotted


def unflatten(changes: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested mappings."""
    values: dict[str, Any] = {}
    for key, value in changes.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        values = deep_merge(values, value)
    return values


def deep_merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """A copy of ``base`` with the values of ``over`` in their place, nested mappings merged."""
    merged = dict(base)
    for key, value in over.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = deep_merge(merged[key], value) if nested else value
    return merged
