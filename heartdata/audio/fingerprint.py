"""An acoustic fingerprint of a recording, by which `heartdata.checks.near_duplicates` finds copies of one sound.

Two bytes for every 20 ms. The *code*, after Haitsma and Kalker (2002, ISMIR: A highly robust audio
fingerprinting system), is the signs of differences of band energies in time and between bands: they follow the
irregularities of beats and the noise between them, which no two recordings share, rather than the rhythm, which many
share. The *envelope* is the loudness, which noise changes less.
"""

import numpy as np
from scipy import fft

HOP_S = 0.02
RATE_HZ = 2000  # sounds are resampled to it, also for `heartdata.audio.quality`
HOP = round(HOP_S * RATE_HZ)
WINDOW = 5 * HOP  # a frame: 100 ms
BANDS_HZ = (20, 40, 60, 90, 150)
BAND_PAIRS = ((0, 1), (1, 2), (2, 3), (0, 3))
MINUTE = 3000  # frames
MAX_FRAMES = 10 * MINUTE  # as long as recordings are accepted, unless validation.max_duration_s is raised
MIN_FRAMES = 24  # half a second: the shortest overlap that is compared
SILENCE = 1e-8  # of the loudest frame's power; quieter frames have code 0

_EDGES = [hz * WINDOW // RATE_HZ for hz in BANDS_HZ]  # bins of a frame's spectrum
_HANN = np.hanning(WINDOW).astype(np.float32)


def fingerprint(sound: np.ndarray) -> bytes:
    """The fingerprint of mono samples at RATE_HZ, shape (n,): a code byte per frame, then an envelope byte per frame.

    A frame is 20 ms; there are at most MAX_FRAMES. Bits 1-4 of a code: whether each band's energy rises over 40 ms.
    Bits 5-8: whether the ratio of two bands' energies (BAND_PAIRS) is above its median. Code 0 is silence. An envelope
    byte is the root of the amplitude, 255 the loudest. Empty when the sound is silent or shorter than MIN_FRAMES.
    """
    sound = sound[: (MAX_FRAMES + 1) * HOP + WINDOW].astype(np.float32)
    if len(sound) < (MIN_FRAMES + 1) * HOP + WINDOW:
        return b""
    frames = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::HOP] * _HANN
    spectra = np.square(np.abs(fft.rfft(frames, axis=1)))[:, : _EDGES[-1]]
    power = np.add.reduceat(spectra, _EDGES[:-1], axis=1)
    total = power.sum(axis=1)
    loudest = total.max()
    if loudest <= 0:
        return b""
    level = np.log(power + 1e-12 * loudest)
    middle, total = level[1:-1], total[1:-1]
    ratios = np.stack([middle[:, a] - middle[:, b] for a, b in BAND_PAIRS], axis=1)
    codes = np.packbits(np.hstack([level[2:] > level[:-2], ratios > np.median(ratios, axis=0)]), axis=1)[:, 0]
    codes[total < SILENCE * loudest] = 0
    return codes.tobytes() + np.round(255 * (total / loudest) ** 0.25).astype(np.uint8).tobytes()
