"""The names of the models that are scored, as tables, pages and metrics have them."""

NETWORK = "resnet34"
SIMPLE_FEATURES = "simple features"
METADATA_ONLY = "metadata only"
MAJORITY_CLASS = "majority class"
