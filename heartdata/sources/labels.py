"""Other names for the labels of a source: several old ones may have one new name, and null is unlabelled."""

from typing import Annotated, Any

from pydantic import BeforeValidator

LABEL_IN_SOURCE = "label_in_source"  # in ``extra``: the label of a recording whose label was renamed


def with_text_keys(labels: Any) -> Any:
    """YAML reads ``0: {1: abnormal}`` as numbers: keys become text."""
    if not isinstance(labels, dict):
        return labels
    return {str(key): with_text_keys(value) for key, value in labels.items()}


LabelNames = Annotated[dict[str, str | None], BeforeValidator(with_text_keys)]
