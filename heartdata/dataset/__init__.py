"""From checked recordings to a data set: inventory, splits, spectrogram shards, manifest, provenance, pruning."""
