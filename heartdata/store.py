"""Where stages keep what they make: one folder, immutable content-named files, atomic writes.

A file appears under its final name only when it is complete (temporary name in the same folder,
fsync, rename), so a killed run leaves nothing that a later run would trust. Names hold the content's
digest, so writing the same thing twice is harmless.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from heartdata.errors import StoreError

CHUNK_BYTES = 1 << 20


class Artifact(BaseModel):
    """What a stage hands to the next one: a file in the store, named by what it contains.

    ``digest`` leaves out columns marked as not digested, such as URIs (see `content_digest`), so moving
    a folder of recordings changes nothing downstream. ``counts`` is what the stage reports of its work.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    digest: str
    rows: int
    counts: dict[str, int | float | str] = {}


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes, read in chunks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: object) -> str:
    """Hex sha256 of a value's canonical JSON (sorted keys)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def content_digest(table: pa.Table) -> str:
    """Hex sha256 of a table's column names and values, columns marked as not digested left out."""
    fields = [f for f in table.schema if (f.metadata or {}).get(b"digested") != b"no"]
    frame = table.select([f.name for f in fields]).to_pandas()
    digest = hashlib.sha256(json.dumps([(f.name, str(f.type)) for f in fields]).encode())
    digest.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path``; on success flush it to disk and rename it to ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = tempfile.NamedTemporaryFile(  # noqa: SIM115 (closed by the with below, before the rename)
        dir=path.parent, prefix=f".{path.name[:80]}.", suffix=".tmp", delete=False
    )
    unfinished = Path(temporary.name)
    try:
        with temporary as file:
            yield file  # type: ignore[misc]
            file.flush()
            os.fsync(file.fileno())
        unfinished.chmod(0o644)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


class Store:
    """One output folder. Raises `StoreError` when it cannot be created or written."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser().resolve()

    def open(self) -> "Store":
        """Create the folder and prove that it can be written."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise StoreError(
                f"cannot write to the output folder {self.root} ({error.strerror}): "
                "choose another with --store or make it writable"
            ) from error
        return self

    def path(self, name: str) -> Path:
        """Where an artifact or file of this name lies."""
        return self.root / name

    def write_table(
        self,
        stage: str,
        table: pa.Table,
        schema: pa.Schema,
        counts: dict[str, int | float | str] | None = None,
    ) -> Artifact:
        """Write ``table`` under a name made of the stage and its content; checks the schema first."""
        table = conform(table, schema, stage)
        digest = content_digest(table)
        name = f"{stage}/{digest[:20]}.parquet"
        with atomic_write(self.path(name)) as file:
            pq.write_table(table, file, write_page_checksum=True)
        return Artifact(name=name, digest=digest, rows=table.num_rows, counts=counts or {})

    def read_table(self, artifact: Artifact, schema: pa.Schema) -> pa.Table:
        """Read an artifact's table and check its schema."""
        return conform(read_parquet(self.path(artifact.name)), schema, artifact.name)

    def read_frame(self, artifact: Artifact, schema: pa.Schema) -> pd.DataFrame:
        """The same as `read_table`, as a pandas frame."""
        return self.read_table(artifact, schema).to_pandas()

    def write_array(self, name: str, array: np.ndarray) -> str:
        """Write a ``.npy`` file atomically; returns the hex sha256 of its bytes."""
        path = self.path(name)
        with atomic_write(path) as file:
            np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
            file.flush()
            return sha256_file(Path(file.name))

    def write_bytes(self, stage: str, suffix: str, content: bytes, rows: int = 0) -> Artifact:
        """Write a file of any kind under a name made of the stage and its sha256."""
        digest = hashlib.sha256(content).hexdigest()
        name = f"{stage}/{digest[:20]}{suffix}"
        with atomic_write(self.path(name)) as file:
            file.write(content)
        return Artifact(name=name, digest=digest, rows=rows)

    def intact(self, artifact: Artifact) -> bool:
        """Whether the artifact's file is there and still has the content that its digest names."""
        path = self.path(artifact.name)
        if not path.is_file():
            return False
        if path.suffix != ".parquet":
            return sha256_file(path) == artifact.digest
        try:
            return content_digest(read_parquet(path)) == artifact.digest
        except (pa.ArrowException, OSError):
            return False


def read_parquet(path: Path) -> pa.Table:
    """A whole table, its page checksums verified. Raises OSError when a page is damaged."""
    return pq.read_table(path, page_checksum_verification=True)


def conform(table: pa.Table, schema: pa.Schema, what: str) -> pa.Table:
    """Cast ``table`` to ``schema``; raises `StoreError` naming the columns that do not fit."""
    missing = [n for n in schema.names if n not in table.column_names]
    surplus = [n for n in table.column_names if n not in schema.names]
    if missing or surplus:
        raise StoreError(f"{what}: columns missing {missing}, not in the schema {surplus}")
    try:
        return table.select(schema.names).cast(schema)
    except (
        pa.ArrowInvalid,
        pa.ArrowTypeError,
        pa.ArrowNotImplementedError,
        ValueError,
    ) as error:
        raise StoreError(f"{what}: does not fit its schema: {error}") from error


def table_from_rows(rows: list[dict[str, object]], schema: pa.Schema) -> pa.Table:
    """Rows (dicts) to a table of the given schema, an empty list included."""
    return pa.Table.from_pylist(rows, schema=schema)
