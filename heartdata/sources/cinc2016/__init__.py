"""The PhysioNet/CinC Challenge 2016, and other databases of the same layout."""

from heartdata.sources.cinc2016.source import Cinc2016Source

__all__ = ["Cinc2016Source"]
