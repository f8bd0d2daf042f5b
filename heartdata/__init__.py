"""The domain library: recordings, measurements, checks, spectrograms, splits, models, scores.

Plain functions and frozen configuration objects. Does not import Prefect or MLflow.
"""
