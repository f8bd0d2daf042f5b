"""Recordings to predict, which need no labels: a table, or any folder of audio files."""

from pathlib import Path
from typing import ClassVar, Self

from heartdata.errors import SourceError
from heartdata.sources.base import AUDIO_SUFFIXES, Source, find_files, names_below
from heartdata.sources.table.columns import Entry
from heartdata.sources.table.file_lookup import FileLookup
from heartdata.sources.table.source import TableSource


class UnlabelledSource(TableSource):
    """A `TableSource` whose table may lack a label column, and whose folder is read whole, whatever its sub-folders mean."""

    needs_labels: ClassVar[bool] = False
    data_option: ClassVar[str] = "`heartbeat score DATA`"

    @classmethod
    def at(cls, data: str | Path, settings: Source) -> Self:
        """The recordings at ``data``, read by ``settings`` if they are those of a table; its corrections are of others."""
        of_table = settings.model_dump(exclude={"corrections"}) if isinstance(settings, TableSource) else {}
        return cls.model_validate({**of_table, "data": data})

    def _read(self, workdir: Path | None = None) -> tuple[FileLookup, list[Entry], list[str]]:
        data = self._data()
        if data.is_file() and data.suffix.lower() in AUDIO_SUFFIXES:
            raise SourceError(f"{data} is one recording: use `heartbeat predict {data}`, or name its folder")
        return super()._read(workdir)

    def _read_folder(self, root: Path) -> tuple[FileLookup, list[Entry], list[str]]:
        if self.pattern:
            return super()._read_folder(root)
        files = find_files(root)
        left_out = files.left_out(companions=True)
        if not files.audio:
            raise SourceError(". ".join([f"{root} holds no audio file: name another folder, or a table", *left_out]))
        names = names_below(root, files.audio)
        entries = [
            Entry(name, {}, {}, path if path.is_file() else None) for name, path in zip(names, files.audio, strict=True)
        ]
        return FileLookup(root, []), entries, left_out
