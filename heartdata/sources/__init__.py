"""Where recordings come from: one module a data set, all answering the protocol in `base`."""

from typing import Annotated

from pydantic import Field

from heartdata.sources.base import Listed, Listing, Source
from heartdata.sources.demo import DemoSource
from heartdata.sources.pascal import PascalSource
from heartdata.sources.table import TableSource

AnySource = Annotated[DemoSource | PascalSource | TableSource, Field(discriminator="name")]
SOURCES: dict[str, type[DemoSource] | type[PascalSource] | type[TableSource]] = {
    "demo": DemoSource,
    "pascal": PascalSource,
    "table": TableSource,
}

__all__ = ["SOURCES", "AnySource", "Listed", "Listing", "Source"]
