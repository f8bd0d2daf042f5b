"""The base of every configuration object: frozen, typed, refusing unknown keys, with a digest."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from heartdata.store import sha256_json


class Settings(BaseModel):
    """One stage's configuration. Defaults stand in the fields and nowhere else."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def digest(self) -> str:
        """Hex sha256 of the values, for cache keys and the run record."""
        return sha256_json(self.model_dump(mode="json"))


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings to dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found
