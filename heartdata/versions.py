"""Versions of what is kept in the store by settings and version alone; all others are in `tasks.versions`.

Raise one when the same input gives another result; what was kept is then made again.
"""

MEASURE = "2"
SPECTROGRAMS = "2"
DEMO = "1"
