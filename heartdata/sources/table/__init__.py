"""Anybody's recordings: a table of audio files and their labels, or a folder whose names hold the labels."""

from heartdata.sources.table.source import TableSource

__all__ = ["TableSource"]
