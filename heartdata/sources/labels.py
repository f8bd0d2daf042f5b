"""Other names for the labels of a source: several old ones may have one new name, and null is unlabelled."""

from typing import Annotated, Any

from pydantic import BeforeValidator

LABEL_IN_SOURCE = "label_in_source"  # in ``extra``: the label of a recording whose label was renamed


def numbers_as_text(labels: Any) -> Any:
    """YAML reads ``0: {1: abnormal}`` as numbers: labels are text."""
    if isinstance(labels, dict):
        return {str(key): numbers_as_text(value) for key, value in labels.items()}
    return str(labels) if isinstance(labels, int | float) else labels


LabelNames = Annotated[dict[str, str | None], BeforeValidator(numbers_as_text)]
