"""Data validation: the suite of expectations, duplicates and near-duplicates, drift, and the pages that report them."""
