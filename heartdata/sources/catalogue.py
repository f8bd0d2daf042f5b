"""The public data sets of heart sounds that heartbeat reads: content, licence and where to get them."""

from dataclasses import dataclass
from pathlib import Path

PHYSIONET_URL = "https://physionet.org/files"
SUMS = "SHA256SUMS.txt"  # PhysioNet's checksums of a version, kept with the downloaded files


@dataclass(frozen=True)
class DataSet:
    """One public data set. ``name`` is both the source that reads it and the folder that it is downloaded to.

    ``version`` is its path below PhysioNet's files, ``kaggle`` its name at Kaggle. ``parts`` are the folders that are
    downloaded by default, of about ``size_bytes``; ``beside`` are files elsewhere that are downloaded with any of them.
    """

    name: str
    title: str
    recordings: int
    subjects: str
    labels: str
    size_bytes: int
    licence: str
    page: str
    version: str = ""
    kaggle: str = ""
    parts: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()

    def folder(self, root: Path) -> Path:
        """Its folder below the data folder ``root``."""
        return root / self.name


DATA_SETS = {
    known.name: known
    for known in (
        DataSet(
            name="pascal",
            title="PASCAL Classifying Heart Sounds Challenge 2011",
            recordings=832,
            subjects="set B: in the file names; set A: unknown",
            labels="normal, murmur, extrahls or extrastole, artifact",
            size_bytes=155_000_000,
            licence="CC0",
            page="https://www.kaggle.com/datasets/kinguistics/heartbeat-sounds",
            kaggle="kinguistics/heartbeat-sounds",
        ),
        DataSet(
            name="cinc2016",
            title="PhysioNet/CinC Challenge 2016, databases a to f",
            recordings=3240,
            subjects="a, b, c, e: in the appendix; d, f: unknown",
            labels="normal, abnormal",
            size_bytes=300_000_000,
            licence="ODC-By 1.0",
            page="https://physionet.org/content/challenge-2016/1.0.0/",
            version="challenge-2016/1.0.0",
            parts=tuple(f"training-{letter}" for letter in "abcdef"),
            beside=(
                "annotations/Online_Appendix_training_set.csv",
            ),  # the subjects, so that splits can keep them apart
        ),
        DataSet(
            name="circor2022",
            title="CirCor DigiScope Phonocardiogram Dataset",
            recordings=3163,
            subjects="942",
            labels="murmur: present, absent, unknown; outcome: normal, abnormal",
            size_bytes=600_000_000,
            licence="ODC-By 1.0",
            page="https://physionet.org/content/circor-heart-sound/1.0.3/",
            version="circor-heart-sound/1.0.3",
            parts=("training_data",),
        ),
    )
}
