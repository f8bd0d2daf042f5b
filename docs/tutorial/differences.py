"""What page 4's two ways from a recording to a score do differently."""

import librosa
import numpy as np
import pandas as pd

from heartdata.config import RunConfig
from heartdata.dataset.windows import window_starts


def differences(
    config: RunConfig,
    labelled: pd.DataFrame,
    facts: pd.DataFrame,
    quarantine: pd.DataFrame,
    accepted: pd.DataFrame,
    width: int,
) -> list[dict[str, str]]:
    """Rows of a table; ``labelled``: recordings with a label, ``accepted``: those of a manifest, ``width``: of a window."""
    shares = labelled["label"].value_counts(normalize=True)
    mels = librosa.mel_frequencies(n_mels=128, fmax=22_050 / 2)
    rate_hz = int(facts["rate_hz"].mode()[0])
    empty = float((mels > rate_hz / 2).mean())
    refused = quarantine[quarantine["label"].notna()]
    windows_per_recording = [len(window_starts(int(frames), width)) for frames in accepted["frames"]]
    per_subject = accepted.groupby("group").size()
    reasons = ", ".join(f"{n} {check.replace('_', ' ')}" for check, n in refused["check"].value_counts().items())
    window_s = width * config.spectrogram.hop_s
    rows = [
        ("input", "a PNG of colours: 8 bits, three channels", "log-mel in dB as floats, one channel", "loudness is one number; louder is not always more red, green or blue"),
        ("frequencies", f"librosa's defaults, to 11 kHz: {empty:.0%} of the image is above what a file of {rate_hz} Hz can hold", f"{config.spectrogram.low_hz:.0f} to {config.spectrogram.high_hz:.0f} Hz, {config.spectrogram.mel_bands} bands", "heart sounds and murmurs are below 1 kHz"),
        ("level", "relative to the recording's loudest point", "each band to mean 0, deviation 1", "removes a constant colouring by the device"),
        ("length", f"{accepted['duration_s'].min():.1f} s and {accepted['duration_s'].max():.1f} s squeezed to one width", f"windows of {window_s:.1f} s, a random one an epoch", "else the time scale, and with it the heart rate, differs from image to image"),
        ("split", "random over files", "by subject; validation apart from test", f"a subject has up to {per_subject.max()} recordings here"),
        ("copies and faults", "all files used", f"{len(refused)} of {len(labelled)} labelled ones refused" + (f" ({reasons})" if reasons else ""), "a copy in both parts is a leak; a wrong file teaches nothing"),
        ("class balance", f"as they come: {shares.iloc[0]:.0%} {shares.index[0]}, {shares.iloc[-1]:.0%} {shares.index[-1]}", "every class drawn equally often", "else the rare class is hardly trained on"),
        ("what is scored", "an image", f"a recording: the mean over its windows ({np.mean(windows_per_recording):.1f} on average)", "a murmur may be clear in one window only"),
        ("epoch kept", "the last", "chosen on validation subjects, by macro-F1", "the test part chooses nothing"),
        ("decision", "the most probable class", "temperature, class weights and a bound for unsure ones, fitted to validation subjects", "a confidence should be the chance of being right"),
        ("score", "accuracy", "macro-F1, AUROC, ... with intervals over subjects, beside baselines", "accuracy is mostly the share of the common class"),
        ("afterwards", "a pickle (learn.export)", "safetensors, with data set version, settings, code, and what the weights were trained on", "any score can be traced to the audio"),
        ("the next night", "everything again", "only what is new: files, spectrograms and trainings are cached by content", "hours become seconds"),
    ]  # fmt: skip
    return [dict(zip(("", "tutorial", "pipeline", "why"), row, strict=True)) for row in rows]
