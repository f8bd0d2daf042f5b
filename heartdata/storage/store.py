"""Where stages keep what they make: a folder or a bucket, immutable content-named files, atomic writes.

A file appears under its final name only when it is complete (in a folder: temporary name beside it, fsync, rename; in
a bucket: uploaded once it is whole), so a killed run leaves nothing that a later run would trust. Names hold the
content's digest, so writing the same thing twice is harmless.
"""

import hashlib
import json
import logging
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from platformdirs import user_cache_path, user_data_path
from pydantic import BaseModel, ConfigDict

from heartdata.errors import StoreError
from heartdata.settings import names_a_password, sha256_json
from heartdata.storage.remote import Remote, is_remote

logger = logging.getLogger("heartbeat")


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


@dataclass(frozen=True)
class Entry:
    """A file in the store. ``modified_s``: Unix time of its last change."""

    name: str
    size_bytes: int
    modified_s: float


class Store:
    """A folder, or any fsspec URI such as ``s3://bucket/prefix``; can be pickled.

    What stages make lies there by name: `writing` and `local` are the way to it. What must be local (databases, logs,
    pages for people) lies in ``root``, by `workpath`: in a folder this is the folder itself, with a bucket a working
    folder of this machine, beside copies of objects in a cache folder. Raises `StoreError` for a place that cannot be meant.
    """

    def __init__(self, root: str | Path) -> None:
        if names_a_password(str(root)):
            raise StoreError("the store's URI names a password: give credentials in the environment")
        if re.match(r"\w{2,}:(/[^/]|/+$)", str(root)):
            raise StoreError(
                f"{str(root)!r} is no folder and no URI: a URI has two slashes and a bucket, as in s3://bucket/name"
            )
        self._remote = Remote(str(root)) if is_remote(root) else None
        if self._remote:
            self.uri = self._remote.uri
            self.root, self._copies = working_folders(self.uri)
        else:
            self.root = Path(re.sub("^(file|local)://", "", str(root))).expanduser().resolve()
            self.uri = str(self.root)

    def __reduce__(self) -> tuple[type["Store"], tuple[str]]:
        return Store, (self.uri,)  # the working folder is another one on another machine

    def open(self) -> "Store":
        """Create the folder and prove that the store can be written. Raises `StoreError` when it cannot."""
        what, remedy = "output folder", "choose another with --store or make it writable"
        if self._remote:
            what, remedy = "working folder", "choose another with HEARTBEAT_WORK or make it writable"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise StoreError(f"cannot write to the {what} {self.root} ({error.strerror}): {remedy}") from error
        if self._remote:
            self._remote.prove_writable()
        return self

    def workpath(self, name: str) -> Path:
        """Where a file that must be local lies. Files of stages lie there only while the store is a folder."""
        return self.root / name

    def address(self, name: str) -> str:
        """The path or URI of a stage's file, for people and records."""
        return self._remote.address(name) if self._remote else str(self.root / name)

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """A local temporary file, seekable and readable, that becomes the file ``name`` when the block ends.

        When the block or the upload raises, nothing appears. Raises OSError.
        """
        if self._remote is None:
            with atomic_write(self.root / name) as file:
                yield file
            return
        self._copies.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._copies, prefix=".unfinished-") as folder:
            unfinished = Path(folder, Path(name).name)
            with unfinished.open("w+b") as file:
                yield file
            copy = self._copy(name, self._remote.put(unfinished, name))
            copy.parent.mkdir(parents=True, exist_ok=True)
            unfinished.replace(copy)

    def local(self, name: str) -> Path:
        """A local path to read a stage's file from; out of a bucket it is fetched once.

        Raises OSError; FileNotFoundError when a bucket has no such object (in a folder, opening the path does).
        """
        if self._remote is None:
            return self.root / name
        info = self._remote.info(name)
        copy = self._copy(name, info)
        if not copy.is_file() or copy.stat().st_size != info["size"]:
            with atomic_write(copy) as file:
                self._remote.get(name, info["size"], Path(file.name))
        return copy

    def _copy(self, name: str, info: dict[str, Any]) -> Path:
        """Where the copy of a remote object lies: elsewhere as soon as the store tells another size, time or ETag."""
        return self._copies / name / sha256_json(info)[:16] / Path(name).name

    def _forget_copies(self, name: str) -> None:
        shutil.rmtree(self._copies / name, ignore_errors=True)

    def exists(self, name: str) -> bool:
        """Whether there is such a file, whatever it holds. Raises OSError when a bucket cannot be reached."""
        if self._remote is None:
            return (self.root / name).is_file()
        try:
            return bool(self._remote.info(name))
        except FileNotFoundError:
            return False

    def entries(self, prefix: str) -> list[Entry]:
        """Every file below the folder ``prefix``, sorted by name; in a folder also what killed runs left unfinished."""
        if self._remote is None:
            return list(_files_below(self.root, prefix))
        return [
            Entry(name, size, modified_s) for name, (size, modified_s) in sorted(self._remote.below(prefix).items())
        ]

    def remove(self, name: str) -> None:
        """Remove a file and the copies of it here; one that is not there is no error."""
        if self._remote is None:
            (self.root / name).unlink(missing_ok=True)
        else:
            self._remote.remove(name)
            self._forget_copies(name)

    def write_table(
        self,
        stage: str,
        table: pa.Table,
        schema: pa.Schema,
        counts: dict[str, int | float | str] | None = None,
    ) -> Artifact:
        """Write ``table`` under a name made of the stage and its content; checks the schema first."""
        return self._write_table(f"{stage}/{{digest}}.parquet", table, schema, counts)

    def write_table_as(self, name: str, table: pa.Table, schema: pa.Schema) -> Artifact:
        """The same under a given name, which must stand for one content."""
        return self._write_table(name, table, schema)

    def _write_table(
        self, name: str, table: pa.Table, schema: pa.Schema, counts: dict[str, int | float | str] | None = None
    ) -> Artifact:
        table = conform(table, schema, name)
        digest = content_digest(table)
        name = name.format(digest=digest[:20])
        with self.writing(name) as file:
            pq.write_table(table, file, write_page_checksum=True)
        return Artifact(name=name, digest=digest, rows=table.num_rows, counts=counts or {})

    def read_table(self, artifact: Artifact, schema: pa.Schema) -> pa.Table:
        """Read an artifact's table and check its schema."""
        return conform(read_parquet(self.local(artifact.name)), schema, artifact.name)

    def read_frame(self, artifact: Artifact, schema: pa.Schema) -> pd.DataFrame:
        """The same as `read_table`, as a pandas frame."""
        return self.read_table(artifact, schema).to_pandas()

    def write_array(self, name: str, array: np.ndarray) -> str:
        """Write a ``.npy`` file atomically; returns the hex sha256 of its bytes."""
        with self.writing(name) as file:
            np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
            file.flush()
            return sha256_file(Path(file.name))

    def write_bytes(self, stage: str, suffix: str, content: bytes, rows: int = 0) -> Artifact:
        """Write a file of any kind under a name made of the stage and its sha256."""
        digest = hashlib.sha256(content).hexdigest()
        name = f"{stage}/{digest[:20]}{suffix}"
        with self.writing(name) as file:
            file.write(content)
        return Artifact(name=name, digest=digest, rows=rows)

    def intact(self, artifact: Artifact) -> bool:
        """Whether the artifact's file is there and still has the content that its digest names.

        A remote object is downloaded again only when the store tells another size, time or ETag of it than of the copy
        here, or when the copy is not what it should be. Raises OSError when a bucket cannot be reached or reading fails.
        """
        try:
            if _holds(self.local(artifact.name), artifact):
                return True
            if self._remote is None:
                return False
            self._forget_copies(artifact.name)
            return _holds(self.local(artifact.name), artifact)
        except FileNotFoundError:
            return False


def working_folders(uri: str) -> tuple[Path, Path]:
    """Where this machine keeps what is local of a remote store, and copies of its objects, which may be deleted.

    Below HEARTBEAT_WORK, else in the user's data folder and cache folder. A folder that an earlier version kept in the
    cache is moved. Raises `StoreError` when it cannot be.
    """
    readable = re.sub(r"\W+", "-", uri).strip("-")[:60]
    name = f"{readable}-{hashlib.sha256(uri.encode()).hexdigest()[:8]}"
    if chosen := os.environ.get("HEARTBEAT_WORK"):
        folder = Path(chosen).expanduser().resolve() / name
        return folder, folder / "objects"
    folder = user_data_path("heartbeat", appauthor=False).resolve() / name
    copies = user_cache_path("heartbeat", appauthor=False).resolve() / "objects" / name
    old = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "heartbeat").expanduser().resolve() / name
    if old.is_dir() and not old.is_symlink() and not folder.exists():
        _move_out_of_cache(old, folder, copies)
    return folder, copies


def _move_out_of_cache(old: Path, folder: Path, copies: Path) -> None:
    """Move a working folder and link the old place to the new one, as records in its MLflow hold absolute paths."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        old.rename(folder)
    except FileNotFoundError:  # another process was first
        return
    except OSError as error:
        source, target = shlex.quote(str(old)), shlex.quote(str(folder))
        raise StoreError(
            f"the working folder {old} must leave the cache and cannot be moved ({error.strerror}): "
            f"type mv {source} {target} && ln -s {target} {source}, or set HEARTBEAT_WORK={shlex.quote(str(old.parent))}"
        ) from error
    with suppress(OSError):  # left where they are, they only take space
        copies.parent.mkdir(parents=True, exist_ok=True)
        (folder / "objects").rename(copies)
    with suppress(FileExistsError):
        old.symlink_to(folder)
    logger.warning("the working folder was moved from %s to %s; a link to it stays there", old, folder)


def _files_below(root: Path, prefix: str) -> Iterator[Entry]:
    for path in sorted((root / prefix).rglob("*")):
        with suppress(FileNotFoundError):  # a temporary file that got its name meanwhile
            if path.is_file():
                stat = path.stat()
                yield Entry(path.relative_to(root).as_posix(), stat.st_size, stat.st_mtime)


def _holds(path: Path, artifact: Artifact) -> bool:
    """Whether a file is there with the content that the artifact's digest names."""
    if not path.is_file():
        return False
    if path.suffix != ".parquet":
        return sha256_file(path) == artifact.digest
    try:
        return content_digest(read_parquet(path)) == artifact.digest
    except pa.ArrowException:
        return False
    except OSError as error:
        if error.errno is not None:  # reading failed; a damaged page raises one without a number
            raise
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
