"""Where stages keep their results: a folder or a bucket of immutable files, named by content and written atomically.

A file appears under its final name only when it is complete (in a folder: temporary name beside it, fsync, rename; in
a bucket: uploaded once it is whole), so a killed run leaves nothing that a later run would trust. Names hold the
content's digest, so writing the same thing twice is harmless.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from heartdata.errors import StoreError
from heartdata.settings import contains_password, sha256_json
from heartdata.storage.remote import PROBE, Remote, StoredFile, is_remote
from heartdata.storage.remote import modified_s as remote_modified_s
from heartdata.storage.schema_version import MARKER, check_marker
from heartdata.storage.working_folder import working_folders

Counts = dict[str, int | float | str]


class Artifact(BaseModel):
    """What a stage hands to the next one: a file in the store, named by its content.

    ``digest`` leaves out columns marked as not digested, such as URIs (see `content_digest`), so moving
    a folder of recordings changes nothing downstream. ``counts`` is what the stage reports of its work.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    digest: str
    rows: int
    counts: Counts = {}


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
def atomic_write(path: Path, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path``; on success flush it to disk and rename it to ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name[:80]}.", suffix=".tmp", delete=False
    ) as file:
        unfinished = Path(file.name)
        try:
            yield file  # type: ignore[misc]
            file.flush()
            os.fsync(file.fileno())
            unfinished.chmod(mode)
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise


def is_store(folder: Path) -> bool:
    """Whether a store was opened in ``folder``."""
    return (folder / PROBE).is_file()


def mark_output(folder: Path) -> None:
    """Make ``folder``; if it held nothing, mark it as a store is, so that no source takes what is written there for data."""
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        (folder / PROBE).touch()


class Store:
    """A folder, or any fsspec URI such as ``s3://bucket/prefix``; can be pickled.

    Stages' files are in it by name, and are written and read through `writing` and `local`. What must be local
    (databases, logs, pages for people) is in ``root`` by `workpath`: of a folder this is the folder itself, of a bucket
    a working folder of this machine. Raises `StoreError` for what is neither a folder nor a URI.
    """

    def __init__(self, root: str | Path) -> None:
        if contains_password(str(root)):
            raise StoreError("the store's URI contains a password: give credentials in the environment")
        if re.match(r"\w{2,}:(/[^/]|/+$)", str(root)):
            raise StoreError(
                f"{str(root)!r} is neither a folder nor a URI: a URI has two slashes and a bucket, as in s3://bucket/name"
            )
        self._remote = Remote(str(root)) if is_remote(root) else None
        if self._remote:
            self.uri = self._remote.uri
            self.root, self._copies = working_folders(self.uri)
        else:
            self.root = Path(re.sub("^(file|local)://", "", str(root))).expanduser().resolve()
            self.uri = str(self.root)

    def __reduce__(self) -> tuple[type["Store"], tuple[str]]:
        return Store, (self.uri,)  # another machine has another working folder

    def open(self) -> "Store":
        """Create the folder and check that the store is writable.

        Raises `StoreError` when it is not, has a bad path, or is of a newer version.
        """
        if unusable := re.search(r"\?|%[0-9A-Fa-f]{2}", str(self.root)):
            raise StoreError(
                f"the path {self.root} has a {unusable[0]!r}, which databases and MLflow read as part of a URI: "
                "choose a folder without it"
            )
        what, remedy = "output folder", "choose another with --store or make it writable"
        if self._remote:
            what, remedy = "working folder", "choose another with HEARTBEAT_WORK or make it writable"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
            if not self._remote:
                self.check_version()
                if not is_store(self.root):
                    (self.root / PROBE).write_bytes(MARKER)
        except OSError as error:
            raise StoreError(f"cannot write to the {what} {self.root} ({error.strerror}): {remedy}") from error
        if self._remote:
            self._remote.check_writable()
        return self

    def check_version(self) -> None:
        """Raise `StoreError` if a newer heartbeat made the store, and OSError if that cannot be read.

        That is FileNotFoundError where there is no store in a bucket.
        """
        if self._remote:
            self._remote.check_version()
        elif is_store(self.root):
            check_marker((self.root / PROBE).read_bytes(), str(self.root / PROBE))

    def workpath(self, name: str) -> Path:
        """The path of a file that must be local. Stages' files are there only while the store is a folder."""
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
        """A local path to read a stage's file from; an object in a bucket is downloaded once.

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
        """The path for a copy of a remote object: another as soon as its size, time or ETag changes."""
        return self._copies / name / sha256_json(info)[:16] / Path(name).name

    def _remove_copies(self, name: str) -> None:
        shutil.rmtree(self._copies / name, ignore_errors=True)

    def exists(self, name: str) -> bool:
        """Whether there is such a file, whatever its content. Raises OSError when a bucket cannot be reached."""
        if self._remote is None:
            return (self.root / name).is_file()
        try:
            return bool(self._remote.info(name))
        except FileNotFoundError:
            return False

    def entries(self, prefix: str) -> list[StoredFile]:
        """Every file below the folder ``prefix``, sorted by name; in a folder also what killed runs left unfinished."""
        return self._remote.entries(prefix) if self._remote else list(_files_below(self.root, prefix))

    def note_use(self, name: str) -> None:
        """Set a file's time to now; nothing in a bucket."""
        if self._remote is None:
            with suppress(OSError):  # of another user, or removed meanwhile: only its age counts
                os.utime(self.root / name)

    def remove(self, name: str, modified_s: float) -> None:
        """Remove a file and the local copies of it, unless it was written after ``modified_s``."""
        with suppress(FileNotFoundError):
            if self._remote is None:
                if (self.root / name).stat().st_mtime <= modified_s:
                    (self.root / name).unlink()
            # S3 gives milliseconds in a listing, and seconds of one object
            elif remote_modified_s(self._remote.info(name)) <= modified_s:
                self._remote.remove(name)
                self._remove_copies(name)

    def remove_old_copies(self) -> None:
        """Remove local copies of objects that are gone, of others all but the newest, and of uploads that were killed.

        Copies are listed first: what is uploaded meanwhile stays.
        """
        if self._remote is None:
            return
        day_ago_s = time.time() - 24 * 3600  # an upload in progress started later
        copies = sorted(_files_below(self._copies, ""), key=lambda copy: copy.modified_s)
        names = {entry.name for entry in self._remote.entries("")}
        newest = {_object_of(copy): copy for copy in copies}
        for copy in copies:
            name = _object_of(copy)
            needless = name not in names or newest[name] != copy
            if copy.name.startswith(".unfinished-"):
                needless = copy.modified_s < day_ago_s
            if needless:
                shutil.rmtree((self._copies / copy.name).parent, ignore_errors=True)

    def write_table(
        self, stage: str, table: pa.Table, schema: pa.Schema, counts: Counts | None = None, name: str | None = None
    ) -> Artifact:
        """Write ``table`` as STAGE/DIGEST.parquet, or as ``name``, after a check of its schema."""
        table = conform(table, schema, name or stage)
        digest = content_digest(table)
        name = name or f"{stage}/{digest[:20]}.parquet"
        with self.writing(name) as file:
            pq.write_table(table, file, write_page_checksum=True)
        return Artifact(name=name, digest=digest, rows=table.num_rows, counts=counts or {})

    def read_table(self, artifact: Artifact | str, schema: pa.Schema) -> pa.Table:
        """Read the table of an artifact (or of a file's name) and check its schema."""
        name = artifact if isinstance(artifact, str) else artifact.name
        return conform(read_parquet(self.local(name)), schema, name)

    def read_frame(self, artifact: Artifact, schema: pa.Schema) -> pd.DataFrame:
        """`read_table` as a pandas frame."""
        return self.read_table(artifact, schema).to_pandas()

    def write_array(self, name: str, array: np.ndarray) -> str:
        """Write a ``.npy`` file; returns the hex sha256 of its bytes."""
        with self.writing(name) as file:
            np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
            file.flush()
            return sha256_file(Path(file.name))

    def write_bytes(self, stage: str, suffix: str, content: bytes) -> Artifact:
        """Write a file of any kind as STAGE/SHA256 with ``suffix``."""
        digest = hashlib.sha256(content).hexdigest()
        name = f"{stage}/{digest[:20]}{suffix}"
        with self.writing(name) as file:
            file.write(content)
        return Artifact(name=name, digest=digest, rows=0)

    def intact(self, artifact: Artifact) -> bool:
        """Whether the artifact's file exists with the content of the artifact's digest.

        A remote object is downloaded again only when its size, time or ETag are not those of the local copy, or when
        that copy is damaged. Raises OSError when a bucket cannot be reached or reading fails.
        """
        try:
            if _has_digest(self.local(artifact.name), artifact.digest):
                return True
            if self._remote is None:
                return False
            self._remove_copies(artifact.name)
            return _has_digest(self.local(artifact.name), artifact.digest)
        except FileNotFoundError:
            return False

    def verified(self, artifact: Artifact) -> Path:
        """The local file of an artifact, with the content of its digest. Raises `StoreError` when it is damaged."""
        if not self.intact(artifact):
            raise StoreError(f"{self.address(artifact.name)} is damaged or gone: run again to make it again")
        return self.local(artifact.name)


def _object_of(copy: StoredFile) -> str:
    """The name of the object that a local copy is of."""
    return str(PurePosixPath(copy.name).parents[1])


def _files_below(root: Path, prefix: str) -> Iterator[StoredFile]:
    for path in sorted((root / prefix).rglob("*")):
        with suppress(FileNotFoundError):  # a temporary file that was renamed meanwhile
            if path.is_file():
                stat = path.stat()
                yield StoredFile(path.relative_to(root).as_posix(), stat.st_size, stat.st_mtime)


def _has_digest(path: Path, digest: str) -> bool:
    """Whether a file exists and has ``digest``: of a table its `content_digest`, else the sha256 of its bytes."""
    if not path.is_file():
        return False
    if path.suffix != ".parquet":
        return sha256_file(path) == digest
    try:
        return content_digest(read_parquet(path)) == digest
    except pa.ArrowException:
        return False
    except OSError as error:
        if error.errno is not None:  # a failure to read; that of a damaged page has no number
            raise
        return False


def read_parquet(path: Path) -> pa.Table:
    """A whole table, its page checksums verified. Raises OSError when a page is damaged."""
    return pq.read_table(path, page_checksum_verification=True)


def conform(table: pa.Table, schema: pa.Schema, what: str) -> pa.Table:
    """Cast ``table`` to ``schema``; raises `StoreError` naming ``what`` and the columns that do not fit."""
    missing = [n for n in schema.names if n not in table.column_names]
    surplus = [n for n in table.column_names if n not in schema.names]
    if missing or surplus:
        raise StoreError(f"{what}: columns missing {missing}, not in the schema {surplus}")
    try:
        return table.select(schema.names).cast(schema)
    except (ValueError, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise StoreError(f"{what}: does not fit its schema: {error}") from error


def table_from_frame(frame: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    """The columns of ``frame`` that ``schema`` names, as a table."""
    return pa.Table.from_pandas(frame[schema.names], schema=schema, preserve_index=False)


def table_from_rows(rows: list[dict[str, object]], schema: pa.Schema) -> pa.Table:
    """Rows (dicts) to a table of ``schema``, an empty list included."""
    return pa.Table.from_pylist(rows, schema=schema)
