"""Anybody's recordings: a table of audio files and their labels, or a folder whose names hold the labels.

`source` (settings, listing) reads a table by `readers` (CSV, Excel), `json_tables` or `parquet`, or several by `shards`;
makes labels of columns of zeros and ones by `targets` and a row a file of a row a patient by `wide`; finds roles by
`columns`, interprets values by `cells` (labels, spellings) and `subjects` (one person, one group), and finds audio files by
`file_lookup`; of a folder without a table, `folder` takes labels from the names. `unlabelled` reads recordings to predict.
"""

from heartdata.sources.table.source import TableSource
from heartdata.sources.table.unlabelled import UnlabelledSource

__all__ = ["TableSource", "UnlabelledSource"]
