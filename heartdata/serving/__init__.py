"""Predictions of a trained model: its configuration, and the predictor that loads it."""
