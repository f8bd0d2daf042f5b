"""What a network has heard while it was trained, so that no recording that it heard is ever used to test it."""

import pandas as pd
import pyarrow as pa

from heartdata.checks.near_duplicates import near_duplicates
from heartdata.errors import DataRefused
from heartdata.storage.schemas import TRAINED_ON


def sounds_trained_on(manifest: pd.DataFrame, facts: pd.DataFrame, before: pa.Table | None) -> pa.Table:
    """The distinct sounds of all parts but test (schema HEARD), and those ``before``: what its weights came from.

    A sound that was of one subject then and is of another now has a row for each, so that neither is forgotten.
    """
    sounds = _sounds(manifest[manifest["part"] != "test"], facts)
    table = pa.Table.from_pandas(sounds, schema=TRAINED_ON, preserve_index=False)
    together = pa.concat_tables([table, before] if before is not None else [table]).to_pandas()
    unique = together.drop_duplicates(["sha256", "subject"]).sort_values(["sha256", "subject"])
    nameless = unique["subject"].isna() & unique.duplicated("sha256", keep=False)
    return pa.Table.from_pandas(unique[~nameless], schema=TRAINED_ON, preserve_index=False)


def refuse_if_trained_on(
    manifest: pd.DataFrame, facts: pd.DataFrame, before: pa.Table, init: str, threshold: float
) -> None:
    """Raise `DataRefused` when a test recording, a copy or a near-duplicate of it, or any other recording of its
    subject is among ``before`` (schema HEARD).

    ``threshold``: as of `near_duplicates`.
    """
    tested = manifest[manifest["part"] == "test"]
    sounds, earlier = _sounds(tested, facts), before.to_pandas()
    same = set(sounds.loc[sounds["samples_sha256"].isin(earlier["samples_sha256"].dropna()), "sha256"])
    same |= set(sounds["sha256"]) & set(earlier["sha256"])
    pairs = near_duplicates(pd.concat([sounds, earlier], ignore_index=True), threshold)
    for one, other in pairs[["sha256_a", "sha256_b"]].itertuples(index=False):
        ours = {one, other} & set(sounds["sha256"])
        if {one, other} & set(earlier["sha256"]):
            same |= ours
    same |= set(sounds.loc[sounds["subject"].isin(earlier["subject"].dropna()), "sha256"])
    if same:
        first = tested.loc[tested["sha256"].isin(same), "recording_id"].iloc[0]
        raise DataRefused(
            f"the weights {init} were trained on {len(same)} of the {tested['sha256'].nunique()} recordings of the test "
            f"part, or on near-duplicates or other recordings of their subjects, the first being {first!r}: scores would be "
            "too high. Use training.init=random, weights that were trained on other recordings, or split.strategy=hash from "
            "the first run on; where subjects of one name are different people, give them names of their own"
        )


def upgrade_schema(table: pa.Table) -> pa.Table:
    """A table that a model was registered with, in schema HEARD: earlier ones named no subjects."""
    if "subject" in table.column_names:
        return table
    return table.append_column(TRAINED_ON.field("subject"), pa.nulls(table.num_rows, pa.string()))


def _sounds(rows: pd.DataFrame, facts: pd.DataFrame) -> pd.DataFrame:
    """The distinct sounds of ``rows`` of the manifest, with columns as in schema HEARD. Made subjects are but names."""
    kinds = rows["source"].str.replace(r"-\d+$", "", regex=True)  # table-2 of a mix is a table
    named = rows["subject"].notna() & (kinds != "demo")
    subject_of = dict(zip(rows["sha256"], (kinds + "/" + rows["subject"].astype(str)).where(named, None), strict=True))
    sounds = facts[facts["sha256"].isin(rows["sha256"])]
    return sounds.assign(subject=[subject_of[sha256] for sha256 in sounds["sha256"]])[TRAINED_ON.names]
