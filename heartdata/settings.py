"""The base of every configuration object: frozen, typed, refusing unknown keys, with a digest."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator
from pydantic_core import PydanticCustomError

from heartdata.storage.remote import names_a_password
from heartdata.storage.store import sha256_json


class Settings(BaseModel):
    """One stage's configuration. Defaults stand in the fields and nowhere else."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @field_validator("*")
    @classmethod
    def _holds_no_password(cls, value: Any) -> Any:
        if isinstance(value, str) and names_a_password(value):
            raise PydanticCustomError(
                "secret",
                "names a password, which every run would record: leave it out and put it in the environment, "
                "for S3 as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, for MLflow as MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD (of a database: the whole URI as MLFLOW_TRACKING_URI)",
            )
        return value

    def digest(self) -> str:
        """Hex sha256 of the values, for cache keys and the run record."""
        return sha256_json(self.model_dump(mode="json"))


def described(settings: Settings, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Dotted name, value and meaning of every setting."""
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, Settings):
            yield from described(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value, field.description or ""


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings to dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found
