"""Anybody's recordings: a table of audio files and their labels, or a folder whose names hold the labels.

`source` (settings, listing) reads a table by `readers` (CSV, Excel, Parquet to text), finds roles by `columns`, interprets
values by `cells` (labels, spellings) and `subjects` (one person, one group), and finds audio files by `file_lookup`; of a
folder without a table, `folder` takes labels from the names.
"""

from heartdata.sources.table.source import TableSource

__all__ = ["TableSource"]
