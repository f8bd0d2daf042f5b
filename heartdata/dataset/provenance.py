"""Provenance of weights: the recordings that they were trained on, so that none of these is used to test them."""

import pandas as pd
import pyarrow as pa

from heartdata.checks.near_duplicates import near_duplicates_between
from heartdata.errors import DataRefused
from heartdata.storage.schemas import TRAINED_ON
from heartdata.storage.store import table_from_frame


def sounds_trained_on(manifest: pd.DataFrame, facts: pd.DataFrame, before: pa.Table | None) -> pa.Table:
    """The distinct sounds of all parts but test (schema TRAINED_ON), and those ``before``, of the initial weights.

    A sound whose subject has changed since has a row for each subject.
    """
    sounds = _sounds(manifest[manifest["part"] != "test"], facts)
    table = table_from_frame(sounds, TRAINED_ON)
    rows = pa.concat_tables([table, before] if before is not None else [table]).to_pandas()
    unique = rows.drop_duplicates(["sha256", "subject"]).sort_values(["sha256", "subject"])
    redundant = unique["subject"].isna() & unique.duplicated("sha256", keep=False)
    return table_from_frame(unique[~redundant], TRAINED_ON)


def was_trained_on(tested: pd.DataFrame, facts: pd.DataFrame, before: pa.Table, threshold: float) -> pd.Series:
    """Which rows of the manifest, ``tested``, are in ``before`` (schema TRAINED_ON), are copies or near-duplicates of a
    recording that is, or are of its subject. ``threshold``: see `heartdata.checks.near_duplicates.near_duplicates`.
    """
    sounds, earlier = _sounds(tested, facts), before.to_pandas()
    pairs = near_duplicates_between(sounds, earlier, threshold)
    both = pd.concat([pairs, pairs.rename(columns={"sha256_a": "sha256_b", "sha256_b": "sha256_a"})])
    similar = both.loc[both["sha256_b"].isin(earlier["sha256"]), "sha256_a"]
    leaked = sounds["sha256"].isin([*earlier["sha256"], *similar])
    for column in ("samples_sha256", "subject"):
        leaked |= sounds[column].isin(earlier[column].dropna())
    return tested["sha256"].isin(sounds["sha256"][leaked])


def refuse_if_trained_on(
    manifest: pd.DataFrame, facts: pd.DataFrame, before: pa.Table, init: str, threshold: float
) -> None:
    """Raise `DataRefused` when a test recording `was_trained_on`. ``init``: the name of the weights."""
    tested = manifest[manifest["part"] == "test"]
    leaked = tested[was_trained_on(tested, facts, before, threshold)]
    if len(leaked):
        raise DataRefused(
            f"the weights {init} were trained on {leaked['sha256'].nunique()} of the {tested['sha256'].nunique()} recordings "
            "of the test part, or on near-duplicates or other recordings of their subjects, the first being "
            f"{leaked['recording_id'].iloc[0]!r}: scores would be too high. Use training.init=random, weights trained on "
            "other recordings, or split.strategy=hash from the first run on; if different people have the same subject "
            "name, rename them"
        )


def upgrade_schema(table: pa.Table) -> pa.Table:
    """A registered model's table in schema TRAINED_ON: some are without the column ``subject``."""
    if "subject" in table.column_names:
        return table
    return table.append_column(TRAINED_ON.field("subject"), pa.nulls(table.num_rows, pa.string()))


def _sounds(rows: pd.DataFrame, facts: pd.DataFrame) -> pd.DataFrame:
    """The distinct sounds of ``rows`` of the manifest, with the columns of TRAINED_ON.

    Subjects of the demo are left null, as they are not people.
    """
    kinds = rows["source"].str.replace(r"-\d+$", "", regex=True)  # table-2 of a mix is a table
    known = rows["subject"].notna() & (kinds != "demo")
    subject_of = dict(zip(rows["sha256"], (kinds + "/" + rows["subject"].astype(str)).where(known, None), strict=True))
    sounds = facts[facts["sha256"].isin(rows["sha256"])]
    return sounds.assign(subject=[subject_of[sha256] for sha256 in sounds["sha256"]])[TRAINED_ON.names]
