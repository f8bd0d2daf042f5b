"""The CirCor DigiScope data set of children (PhysioNet Challenge 2022)."""

from heartdata.sources.circor2022.source import Circor2022Source

__all__ = ["Circor2022Source"]
