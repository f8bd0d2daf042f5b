"""The domain library: recordings, measurements, checks, spectrograms, splits, models, scores.

Plain functions and frozen configuration objects. Knows nothing of Prefect or MLflow.
"""
