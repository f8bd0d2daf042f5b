"""Where recordings come from: one module or package for each data set, all with the protocol in `base`."""

from typing import Annotated

from pydantic import Field

from heartdata.sources.base import Source, SourceListing, SourceRecording
from heartdata.sources.cinc2016 import Cinc2016Source
from heartdata.sources.circor2022 import Circor2022Source
from heartdata.sources.demo import DemoSource
from heartdata.sources.mix import MixSource, Part
from heartdata.sources.pascal import PascalSource
from heartdata.sources.table import TableSource

AnySource = Annotated[Part | MixSource, Field(discriminator="name")]
SOURCES: dict[
    str,
    type[Cinc2016Source] | type[Circor2022Source] | type[DemoSource] | type[MixSource] | type[PascalSource] | type[TableSource],
] = {
    "demo": DemoSource,
    "pascal": PascalSource,
    "cinc2016": Cinc2016Source,
    "circor2022": Circor2022Source,
    "table": TableSource,
    "mix": MixSource,
}  # fmt: skip

__all__ = [
    "SOURCES", "AnySource", "Cinc2016Source", "Circor2022Source", "DemoSource", "MixSource", "PascalSource", "Source",
    "SourceListing", "SourceRecording", "TableSource", "needs_data",
]  # fmt: skip


def needs_data(name: str) -> bool:
    """Whether the source ``name`` reads a folder or file that must be given."""
    return "data" in SOURCES[name].model_fields
