"""Versions of the code behind files that the store finds by settings and version, and of a model's preprocessing.

Raise one when the same input gives another result. All other versions are in `tasks.engine.versions`.
"""

DECODING = "3"  # and choosing the channel, and resampling; measurements and spectrograms are computed from the samples: raise theirs too
MEASURE = "5"
SPECTROGRAMS = "4"
DEMO = "2"
SCORES = "2"

PREPROCESSING = {"decoding": DECODING, "spectrograms": SPECTROGRAMS}  # recorded with each model
