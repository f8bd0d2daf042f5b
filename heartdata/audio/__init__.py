"""Signals: decoding, measurements, signal quality, fingerprints, log-mel spectrograms, synthetic heart sounds."""
