"""Several sources as one training set, with common labels."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from heartdata.errors import SourceError
from heartdata.settings import sha256_json
from heartdata.sources.base import MakesRecordings, SourceListing, SourceRecording, SourceSettings, check_source
from heartdata.sources.cinc2016 import Cinc2016Source
from heartdata.sources.circor2022 import Circor2022Source
from heartdata.sources.corrections import corrected_listing
from heartdata.sources.demo import DemoSource
from heartdata.sources.labels import LABEL_IN_SOURCE, LabelNames, numbers_as_text
from heartdata.sources.pascal import PascalSource
from heartdata.sources.table import TableSource

Part = Annotated[
    Cinc2016Source | Circor2022Source | DemoSource | PascalSource | TableSource, Field(discriminator="name")
]


class MixSource(SourceSettings):
    """Settings: the parts, each as it would be configured alone, and the common names of their labels."""

    preset: ClassVar[dict[str, Any]] = {"training": {"epochs": 20}}

    name: Literal["mix"] = "mix"
    sources: tuple[Part, ...] = Field(min_length=1, description="the parts, each with the settings of its own source")
    labels: Annotated[dict[str, LabelNames], BeforeValidator(numbers_as_text)] = Field(
        default={},
        description="for each part, its labels and the common ones, such as {pascal: {murmur: abnormal}}; null: unlabelled",
    )

    @model_validator(mode="after")
    def _check_labels(self) -> "MixSource":
        keys = self.keys()
        for name in self.labels:
            if name not in keys:
                raise ValueError(f"labels names {name!r}, which is not a part: choose among {', '.join(keys)}")
        return self

    def digest(self) -> str:
        """Hex sha256 of the values, without the corrections of the mix and of its parts."""
        left_out: Any = {"corrections": True, "sources": {"__all__": {"corrections"}}}
        return sha256_json(self.model_dump(mode="json", exclude=left_out))

    def keys(self) -> tuple[str, ...]:
        """The name of each part: its source's, numbered from 1 (``table-1``) where several have the same."""
        counts, seen = Counter(part.name for part in self.sources), Counter[str]()
        keys = []
        for part in self.sources:
            seen[part.name] += 1
            keys.append(part.name if counts[part.name] == 1 else f"{part.name}-{seen[part.name]}")
        return tuple(keys)

    def check(self) -> None:
        """Raise `SourceError` for faults of any part that are known at once."""
        for part in self.sources:
            check_source(part)

    def make(self, workdir: Path, progress: Callable[[int, int], None]) -> None:
        """Make the recordings of the parts that make their own."""
        for part in self.sources:
            if isinstance(part, MakesRecordings):
                part.make(workdir, progress)

    def listing(self, workdir: Path) -> SourceListing:
        """The parts' recordings; ids and collections begin with the part's key. Raises `SourceError`."""
        rows: list[SourceRecording] = []
        notes: list[str] = []
        for key, part in zip(self.keys(), self.sources, strict=True):
            listing = corrected_listing(part, workdir)
            rows += _renamed(key, listing, self.labels.get(key))
            notes += [f"{key}: {note}" for note in listing.notes]
        _refuse_different(rows, self.labels.keys())
        return SourceListing(rows, notes)


def _refuse_different(rows: list[SourceRecording], mapped: Collection[str]) -> None:
    """Raise `SourceError` when labels of two parts differ and no mapping says that this is intended.

    Two parts without a mapping need the same labels; where one has a mapping, none may differ in case alone.
    """
    labels: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.source is not None and row.label is not None:
            labels[row.source].add(row.label)
    for one, other in combinations(labels, 2):
        unmapped = [key for key in (one, other) if key not in mapped]
        different = labels[one] ^ labels[other]
        respelled = len({label.casefold() for label in different}) < len(different)
        if different and (len(unmapped) == 2 or (unmapped and respelled)):
            listed = "; ".join(f"{key}: {', '.join(sorted(labels[key]))}" for key in labels)
            template = (
                f"{key}: {{{', '.join(f'{label}: COMMON' for label in sorted(labels[key]))}}}" for key in unmapped
            )
            raise SourceError(
                f"the parts {one} and {other} have different labels ({listed}). Give each a name in the mix, which may be "
                f"the same: source.labels: {{{', '.join(template)}}}"
            )


def _renamed(key: str, listing: SourceListing, mapping: LabelNames | None) -> Iterator[SourceRecording]:
    """The recordings of one part as they are in the mix; raises `SourceError` for a label that is not mapped."""
    unmapped = {row.label for row in listing.recordings if row.label is not None} - (mapping or {}).keys()
    if mapping is not None and unmapped:
        raise SourceError(
            f"the source {key} has labels that source.labels.{key} does not map: {', '.join(sorted(unmapped))}; add "
            "each with a common label, or with null to leave its recordings unlabelled"
        )
    for row in listing.recordings:
        mapped = row.label if mapping is None or row.label is None else mapping[row.label]
        yield replace(
            row,
            recording_id=f"{key}/{row.recording_id}",
            label=mapped,
            collection=f"{key}/{row.collection}" if row.collection else key,
            extra=row.extra if mapped == row.label else {**row.extra, LABEL_IN_SOURCE: row.label},
            source=key,
        )
