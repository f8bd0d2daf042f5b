"""What all stages share: caching, progress, fan-out to workers, failure notices, versions of the code."""
