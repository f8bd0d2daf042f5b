"""The base of every configuration object: frozen, typed, refusing unknown keys, with a digest."""

from pydantic import BaseModel, ConfigDict

from heartdata.store import sha256_json


class Settings(BaseModel):
    """One stage's configuration. Defaults stand in the fields and nowhere else."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def digest(self) -> str:
        """Hex sha256 of the values, for cache keys and the run record."""
        return sha256_json(self.model_dump(mode="json"))
