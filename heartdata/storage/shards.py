"""Work split into shards by content, so that a new recording changes one shard and no other."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from heartdata.settings import sha256_json
from heartdata.storage.store import Store

EARLIER = 8
TIERS = ((20_000, 16), (200_000, 32), (2_000_000, 128))  # up to so many recordings, so many shards
_NUMBER_OF = re.compile(r"(\d{4})of(\d{4})-\w+\.\w+")


@dataclass(frozen=True)
class Shard:
    """A bucket of recordings: pairs (sha256, uri), sorted, each content once. ``of``: the number of buckets."""

    number: int
    recordings: tuple[tuple[str, str], ...]
    of: int = TIERS[0][1]

    def digest(self) -> str:
        """Hex sha256 over the contents, whatever their URIs."""
        return sha256_json([sha256 for sha256, _ in self.recordings])

    def file(self, folder: str, suffix: str) -> str:
        """The name in a store of what is computed from this bucket."""
        return f"{folder}/{self.number:04d}of{self.of:04d}-{self.digest()[:16]}{suffix}"

    def earlier_files(self, folder: str, suffix: str, store: Store) -> list[str]:
        """Names of at most EARLIER files of buckets that may hold the same contents, the newest first."""
        entries = sorted(store.entries(folder), key=lambda e: (-e.modified_s, e.name))
        numbers = [(e.name, _NUMBER_OF.fullmatch(PurePosixPath(e.name).name)) for e in entries]
        return [n for n, m in numbers if m and n.endswith(suffix) and self.related(int(m[1]), int(m[2]))][:EARLIER]

    def related(self, number: int, of: int) -> bool:
        """Whether bucket ``number`` of ``of`` may hold the same contents; numbers of buckets divide one another."""
        return number % min(of, self.of) == self.number % min(of, self.of)


def shard_count(contents: int) -> int:
    """How many buckets so many contents are split into: tens to hundreds, the same for similar numbers."""
    return next((count for limit, count in TIERS if contents <= limit), 256)


def into_shards(recordings: Iterable[tuple[str, str]], count: int | None = None) -> list[Shard]:
    """Pairs (sha256, uri) to the non-empty buckets; the bucket depends on the content alone."""
    uris = dict(sorted(recordings, reverse=True))  # of several URIs with one content, the first by name
    count = count or shard_count(len(uris))
    buckets: dict[int, list[tuple[str, str]]] = {}
    for sha256, uri in sorted(uris.items()):
        buckets.setdefault(int(sha256[:8], 16) % count, []).append((sha256, uri))
    return [Shard(number, tuple(rows), count) for number, rows in sorted(buckets.items())]
