"""Metrics with confidence intervals, challenge scores, calibration and operating points, baselines."""
