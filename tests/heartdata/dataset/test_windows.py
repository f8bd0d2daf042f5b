"""Windows of a spectrogram: they cover a recording, and repeat a short one."""

import numpy as np
import torch

from heartdata.dataset.windows import as_images, window, window_starts


def test_windows_cover_a_recording():
    assert window_starts(100, 100) == window_starts(30, 100) == [0]
    assert window_starts(250, 100) == [0, 50, 100, 150]
    assert window_starts(260, 100)[-1] == 160


def test_short_recordings_are_repeated():
    rows = np.arange(3)[:, None] * np.ones((1, 2))
    assert window(rows, 0, 7)[:, 0].tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert window(rows, 1, 2)[:, 0].tolist() == [1, 2]


def test_image_has_low_frequencies_first():
    (image,) = as_images(np.arange(6, dtype=np.float16).reshape(1, 3, 2))
    assert (image.shape, image.dtype) == ((1, 2, 3), torch.float32)
    assert image[0, 0].tolist() == [0, 2, 4]
