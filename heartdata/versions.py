"""Versions of what is kept in the store by settings and version alone, and of what a model needs to be served with.

Raise one when the same input gives another result. All other versions are in `tasks.engine.versions`.
"""

DECODING = "1"  # of samples, and of resampling; measurements and spectrograms are made from them: raise theirs, too
MEASURE = "3"
SPECTROGRAMS = "2"
DEMO = "1"

PREPROCESSING = {"decoding": DECODING, "spectrograms": SPECTROGRAMS}  # recorded with each model
