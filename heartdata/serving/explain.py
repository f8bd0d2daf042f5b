"""Why a model predicts what it predicts: where in time and frequency a recording speaks for a class (Grad-CAM)."""

from dataclasses import dataclass

import numpy as np
import torch
from captum.attr import LayerAttribution, LayerGradCam

from heartdata.audio.beats import Beats, find_beats
from heartdata.audio.channels import choose
from heartdata.audio.decode import decode, resample
from heartdata.audio.fingerprint import RATE_HZ
from heartdata.audio.spectrograms import log_mel
from heartdata.dataset.windows import as_images, window_starts
from heartdata.errors import BadAudio
from heartdata.serving.predictor import Prediction, Predictor


@dataclass(frozen=True)
class Explanation:
    """A prediction with what it rests on.

    ``samples``: the mono signal, shape (n,), at ``rate_hz``; ``spectrogram`` and ``relevance`` (0-1): shape
    (columns, mel_bands), one column every ``hop_s``.
    """

    prediction: Prediction
    explained: str
    samples: np.ndarray
    rate_hz: int
    spectrogram: np.ndarray
    relevance: np.ndarray
    beats: Beats | None


def explain(predictor: Predictor, content: bytes, label: str | None = None) -> Explanation:
    """What speaks for class ``label`` (None: the predicted one) in the audio file ``content``. Raises `BadAudio`.

    Grad-CAM: Selvaraju et al., ICCV 2017.
    """
    (prediction,) = predictor.predict([content])
    if isinstance(prediction, BadAudio):
        raise prediction
    explained = label or prediction.label
    audio, config = decode(content), predictor.config
    mono = choose(audio, config.measure.channel).mono
    spectrogram = log_mel(mono, audio.rate_hz, config.spectrogram)
    relevance = _relevance(predictor, spectrogram, config.classes.index(explained))
    beats = find_beats(resample(mono, audio.rate_hz, RATE_HZ))
    return Explanation(prediction, explained, mono, audio.rate_hz, spectrogram, relevance, beats)


def _relevance(predictor: Predictor, spectrogram: np.ndarray, number: int) -> np.ndarray:
    width, net = predictor.config.width, predictor.net
    starts = window_starts(len(spectrogram), width)
    columns = np.arange(width) % len(spectrogram) if len(spectrogram) < width else np.arange(width)
    images = as_images(np.stack([spectrogram[start + columns] for start in starts]))
    attribution = LayerGradCam(net, net.get_submodule("layer2")).attribute(
        images, target=number, relu_attributions=True
    )
    maps = LayerAttribution.interpolate(attribution, images.shape[2:], "bilinear")[:, 0].detach().transpose(1, 2)
    total, count = np.zeros(spectrogram.shape), np.zeros(len(spectrogram))
    for start, of_window in zip(starts, maps.numpy(), strict=True):
        np.add.at(total, start + columns, of_window)
        np.add.at(count, start + columns, 1)
    relevance = total / count[:, None]
    return relevance / max(relevance.max(), torch.finfo(torch.float32).tiny)
