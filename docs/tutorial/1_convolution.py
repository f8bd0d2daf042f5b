# %% [markdown]
# # 1. What convolution does to a heart-sound spectrogram
#
# A convolutional network sees a heart sound as a picture: time from left to right, frequency from bottom to top, loudness
# as brightness. Its first layer slides small windows of numbers, the *kernels*, over that picture. This page computes one
# kernel by hand, moves a murmur in time, compares a trained network's kernels with random ones, and works out how much of a
# heartbeat each layer of a resnet34 can see.

# %%
import copy

import matplotlib.pyplot as plt
import numpy as np
import torch
from common import (
    COLUMN_MS,
    RECORDINGS,
    SMALL,
    SPECTROGRAM,
    WIDTH,
    Recording,
    backbone,
    draw,
    footer,
    images,
    recordings,
    say,
    show,
    table,
)
from scipy.signal import convolve2d
from torch import nn
from torch.nn.functional import conv2d

from heartdata.audio.beats import find_beats
from heartdata.audio.decode import resample
from heartdata.audio.synthesis import RATE_HZ, Heart, synthesize
from heartdata.dataset.windows import as_images
from heartdata.training.network import build_net

# %% [markdown]
# The recording is the murmur, of a dozen, whose heartbeat is found most clearly. Its spectrogram has 32 mel bands from 25 to 800 Hz and a
# column every 32 ms; each band is scaled to mean 0 and standard deviation 1 ([how](../spectrograms.md)). The network gets
# windows of 128 columns, 4.1 s.


# %%
def beats_of(recording: Recording):
    return find_beats(recording.samples, recording.rate_hz)


candidates = [
    (beats, one)
    for one in recordings("murmur", 3 if SMALL else 12)
    if (beats := beats_of(one)) and not beats.may_be_swapped
]
beats, recording = max(candidates, key=lambda pair: pair[0].confidence)
image = images([recording])  # shape (1, 1, 32, 128)
cycle_s = 60 / beats.heart_rate_bpm
say(f"`{recording.name}`: {beats.heart_rate_bpm:.0f} beats a minute, so one heart cycle lasts {1000 * cycle_s:.0f} ms.")

# %% tags=["remove_input"]
figure, axes = plt.subplots(figsize=(9, 2.6), layout="constrained")
drawn = draw(axes, image[0, 0], f"Log-mel spectrogram of {recording.name}", cmap="magma")
figure.colorbar(drawn, label="standard deviations")
show(figure, "Spectrogram of a murmur, 4.1 s")

# %% [markdown]
# ## One kernel by hand
#
# Put the kernel on a patch of the spectrogram, multiply each pair of numbers, add up the products: that is one number of the
# output. Move on by one column and do it again. Here is a sound of two columns between silence, and a kernel that subtracts
# what is on its left from what is on its right:
#
# ```
# spectrogram      kernel       at column 0: (1+1+1) - (0+0+0) =  3   the sound begins
# 0 0 1 1 0        -1 0 1       at column 1: (1+1+1) - (0+0+0) =  3   the sound begins
# 0 0 1 1 0        -1 0 1       at column 2: (0+0+0) - (1+1+1) = -3   the sound ends
# 0 0 1 1 0        -1 0 1
# ```

# %%
tiny = torch.tensor([[0.0, 0, 1, 1, 0]] * 3)
onset = torch.tensor([[-1.0, 0, 1]] * 3)


def slide(spectrogram: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """What a kernel of shape (h, w) gives at every place where it fits."""
    (rows, columns), (h, w) = spectrogram.shape, kernel.shape
    places = [[(r, c) for c in range(columns - w + 1)] for r in range(rows - h + 1)]
    products = [[spectrogram[r : r + h, c : c + w] * kernel for r, c in row] for row in places]
    return torch.tensor([[float(each.sum()) for each in row] for row in products])


by_hand = slide(tiny, onset)
assert by_hand.tolist() == [[3, 3, -3]]
assert torch.equal(by_hand, conv2d(tiny[None, None], onset[None, None])[0, 0])

# %% [markdown]
# **Convolution or cross-correlation?** In signal processing, convolution flips the kernel in both directions before it
# slides; without the flip it is called cross-correlation. What deep learning calls convolution, `torch.nn.Conv2d` included,
# is cross-correlation. As kernels are learned, the network does not care: it learns the flipped kernel instead. Who designs
# a kernel by hand, or compares with `scipy.signal.convolve2d`, must care: here the flip turns the sign.

# %%
flipped = convolve2d(tiny, onset, mode="valid")
assert flipped.tolist() == [[-3, -3, 3]]
assert np.array_equal(flipped, slide(tiny, onset.flip(0, 1)))

# %% [markdown]
# The same kernel on the recording, and its transpose, which subtracts low frequencies from higher ones. The first lights up
# where a sound begins (red) and ends (blue); the second does not see time at all, but the edges of a frequency band.

# %%
edge = onset.T
responses = {"Beginning and end of sounds": onset, "Edges of frequency bands": edge}
for kernel in responses.values():
    assert torch.allclose(slide(image[0, 0], kernel), conv2d(image, kernel[None, None])[0, 0], atol=1e-4)

# %% tags=["remove_input"]
figure, rows = plt.subplots(2, figsize=(9, 5), layout="constrained")
for axes, (title, kernel) in zip(rows, responses.items(), strict=True):
    response = conv2d(image, kernel[None, None], padding=1)[0, 0]
    figure.colorbar(draw(axes, response, title, cmap="RdBu_r", vmin=-12, vmax=12), label="response")
show(figure, "Responses of two kernels to the recording")

# %% [markdown]
# With padding *p* on both sides and steps of *s* (the stride), a kernel of size *k* turns *n* columns into
# ⌊(n + 2p − k) / s⌋ + 1 (Dumoulin & Visin 2016). The first layer of resnet34 has k = 7, s = 2, p = 3:

# %%
first = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
sizes = [(n + 2 * 3 - 7) // 2 + 1 for n in image.shape[2:]]
assert list(first(image).shape) == [1, 64, *sizes] == [1, 64, 16, 64]

# %% [markdown]
# ## Move the murmur, and the response moves along
#
# The kernel is the same at every place. So if a sound comes later, the response comes later by as much, and is otherwise the
# same: convolution is *equivariant* to translation. Nothing has to be learned anew for each moment at which a murmur may
# begin; a fully connected layer would have to.
#
# To see it, one systole of a synthetic murmur is put into silence, once early and once 20 columns later.

# %%
rng = np.random.default_rng(1)
sound = synthesize(Heart.draw("murmur", rng), 4.0, site=0, rng=rng)
rate_hz = SPECTROGRAM.rate_hz
systole = slice(*(round(rate_hz * at_s) for at_s in (sound.s1_s[1], sound.s2_s[1])))
one_murmur = resample(sound.samples, RATE_HZ, rate_hz)[systole]
one_murmur = one_murmur * np.hanning(len(one_murmur))


def with_murmur_at(column: float) -> torch.Tensor:
    """The spectrogram of 4.1 s of silence with the murmur in it, shape (1, 1, 32, 128)."""
    silence = np.zeros(round(4.2 * rate_hz), np.float32)
    start = round(column * SPECTROGRAM.hop_samples)
    silence[start : start + len(one_murmur)] = one_murmur
    return images([Recording("moved", "murmur", silence, rate_hz)])


def response(spectrogram: torch.Tensor, stride: int = 1) -> torch.Tensor:
    return conv2d(spectrogram, onset[None, None], stride=stride)[0, 0]


early, late = response(with_murmur_at(30)), response(with_murmur_at(50))
assert torch.allclose(late[:, 20:], early[:, :-20], atol=1e-4)
moved_by = int(late.abs().sum(0).argmax() - early.abs().sum(0).argmax())
assert moved_by == 20
say(
    f"The response has moved by {moved_by} columns, and is the same to {(late[:, 20:] - early[:, :-20]).abs().max():.0e}."
)

# %% tags=["remove_input"]
figure, rows = plt.subplots(2, 2, figsize=(9, 4.6), layout="constrained", sharex=True)
for (above, below), column in zip(rows.T, (30, 50), strict=True):
    spectrogram = with_murmur_at(column)
    draw(above, spectrogram[0, 0], f"Murmur at column {column}", cmap="magma")
    draw(below, response(spectrogram), "Response", cmap="RdBu_r", vmin=-12, vmax=12)
show(figure, "A murmur at two times, and the response of the kernel to each")

# %% [markdown]
# It is exact only on the grid. A shift by half a column (16 ms) falls between two columns of the spectrogram, and a layer
# with stride 2 keeps every other column, so that it follows only even shifts exactly. The worst case is half a step: half a
# column with stride 1, one column with stride 2. What is left of the response's difference after the best whole shift:


# %%
def left_over(columns: float, stride: int) -> float:
    """Relative difference of the responses before and after a move, aligned as well as whole columns allow."""
    early, late = response(with_murmur_at(30), stride), response(with_murmur_at(30 + columns), stride)
    shifts = range(int(columns / stride), int(columns / stride) + 2)
    return min(float((late[:, s:] - early[:, : early.shape[1] - s]).norm() / early.norm()) for s in shifts)


rows = [{"moved by": f"{columns} columns"} | {f"stride {stride}": f"{left_over(columns, stride):.1%}" for stride in (1, 2)}
        for columns in (20, 21, 22, 20.5)]  # fmt: skip
assert max(left_over(20, 1), left_over(21, 1), left_over(20, 2)) < 1e-4 < left_over(21, 2)
table(rows)

# %% [markdown]
# Two more limits. Padding: at the border a kernel sees zeros that no heart made, and as each band is scaled to mean 0, they
# stand for the band's mean level, not for silence. And the kernel is shared over *frequencies* too, where moving a sound is
# not innocent: a rumble at 60 Hz and one at 300 Hz have other causes. What a network does with strides and shifts in practice
# is measured on [page 2](2_pooling.md).
#
# ## The kernels of a trained network
#
# A trained resnet34 has 64 kernels of 7 by 7 in its first layer: 7 columns (256 ms of sound) by 7 mel bands.

# %%
trained = backbone()
kernels = trained.net.conv1.weight.detach()[:, 0]
say(f"Trained: {trained.origin}.")

# %% tags=["remove_input"]
limit = float(kernels.abs().quantile(0.995))
figure, rows = plt.subplots(4, 16, figsize=(9, 2.9), layout="constrained")
for number, (axes, kernel) in enumerate(zip(rows.flat, kernels, strict=True)):
    drawn = axes.imshow(kernel, origin="lower", cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes.set_title(str(number), fontsize=6, pad=2)
    axes.set(xticks=[], yticks=[])
figure.colorbar(drawn, ax=rows, label="weight", shrink=0.8)
figure.supxlabel("7 columns, 256 ms of sound", fontsize=8)
figure.supylabel("7 mel bands", fontsize=8)
figure.suptitle("The 64 kernels of the first layer")
show(figure, "The 64 kernels of the first layer")

# %% [markdown]
# What are they for? A kernel's weights can be split, as in a two-way analysis of variance, into what changes with time only
# (it finds beginnings and ends, as the one by hand), what changes with frequency only (edges of bands), and the rest, which
# needs both: spots, and sweeps of pitch. The part that does not change at all answers to loudness.


# %%
def parts_of(kernels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Kernels as a sum of four, each of shape (64, 7, 7)."""
    mean = kernels.mean((1, 2), keepdim=True)
    time, frequency = kernels.mean(1, keepdim=True) - mean, kernels.mean(2, keepdim=True) - mean
    parts = {"loudness": mean, "time": time, "frequency": frequency, "both": kernels - mean - time - frequency}
    return {name: part.expand_as(kernels) for name, part in parts.items()}


def shares(of_parts: list[torch.Tensor]) -> torch.Tensor:
    """Each part's share in each kernel: shape (4, 64)."""
    return torch.stack(of_parts) / sum(of_parts)


def shares_of_weights(kernels: torch.Tensor) -> torch.Tensor:
    energy = [(part**2).sum((1, 2)) for part in parts_of(kernels).values()]
    assert torch.allclose(sum(energy), (kernels**2).sum((1, 2)), rtol=1e-4)  # the parts are orthogonal
    return shares(energy)


def shares_of_response(kernels: torch.Tensor, spectrograms: torch.Tensor) -> torch.Tensor:
    return shares([conv2d(spectrograms, part[:, None]).var((0, 2, 3)) for part in parts_of(kernels).values()])


# %%
some = images([one for label in ("murmur", "normal") for one in recordings(label, 1 if SMALL else 4)])
torch.manual_seed(0)
unlearned = build_net(2).conv1.weight.detach()[:, 0]
by_weight = shares_of_weights(kernels)
columns = {
    "of the weights, learned": by_weight, "random": shares_of_weights(unlearned),
    "of the response, learned": shares_of_response(kernels, some), "random ": shares_of_response(unlearned, some),
}  # fmt: skip
parts = list(parts_of(kernels))
table(
    [
        {"part": part, **{name: f"{each[i].mean():.0%}" for name, each in columns.items()}}
        for i, part in enumerate(parts)
    ]
)
percent = [(100 * each.mean(1)).round() for each in columns.values()]  # as in the table
apart = [int((percent[i] - percent[i + 1]).abs().max()) for i in (0, 2)]
say(
    f"Learned and random kernels are at most {apart[0]} percentage points apart in the weights and {apart[1]} in the response. "
    + ("So these shares do not tell a trained first layer from an untrained one." if max(apart) < 5 else "")
)

# %% [markdown]
# Random weights have most of their energy in *both*, for the plain reason that 36 of 49 directions are of that kind; if the
# learned ones look like them to the eye, this is why. The response is another matter: neighbouring columns and bands of a
# spectrogram are alike, so that what is rough in a kernel averages out, and what is smooth adds up. Where learned and random
# are alike, the kernels of a trained network say little about what it has learned: random first kernels are already useful to
# the layers behind them, which learn more (Saxe et al. 2011).
#
# Below are the kernels with most of each part, and what they make of the recording (before batch normalisation and ReLU). They
# show what such a kernel does, not that training was needed to get it.

# %%
chosen = {part: int(by_weight[i].argmax()) for i, part in enumerate(parts)}
with torch.no_grad():
    maps = trained.net.conv1(image)[0]

# %% tags=["remove_input"]
figure, rows = plt.subplots(4, 2, figsize=(9, 7), layout="constrained", width_ratios=[1, 7])
for (left, right), (name, number) in zip(rows, chosen.items(), strict=True):
    left.imshow(kernels[number], origin="lower", cmap="RdBu_r", vmin=-limit, vmax=limit)
    left.set(xticks=[], yticks=[], title=f"kernel {number}")
    top = float(maps[number].abs().max())
    drawn = draw(
        right,
        maps[number],
        f"Response; {name} is {by_weight[parts.index(name), number]:.0%} of this kernel's weights",
        cmap="RdBu_r",
        vmin=-top,
        vmax=top,
    )
    right.set(xlabel=f"column ({2 * COLUMN_MS:.0f} ms each)", ylabel="row (2 bands)")
    figure.colorbar(drawn, label="response")
show(figure, "Four kernels of the trained network and their responses to the recording")

# %% [markdown]
# ## How much of a heartbeat does each layer see?
#
# A number in the first layer depends on 7 columns. A number in the next layer depends on several of those, and so on: its
# *receptive field* grows. A layer with kernel *k* adds (k − 1) times the *step* so far, the product of all strides before it
# (Araujo, Norris & Sim 2019):
#
# > r ← r + (k − 1) · step,   step ← step · s
#
# This is along the longest path; the skip connections of a resnet (He et al. 2016) are shorter ways through the same layers.

# %%
path = [(name, module) for name, module in trained.net.named_modules()
        if isinstance(module, nn.Conv2d | nn.MaxPool2d) and "downsample" not in name]  # fmt: skip
field, step, fields = 1, 1, {}
for name, module in path:
    size, stride = (np.ravel(value)[0] for value in (module.kernel_size, module.stride))
    field, step = int(field + (size - 1) * step), int(step * stride)
    fields[name.removesuffix(".conv1").removesuffix(".conv2") if "." in name else name] = (field, step)
assert [fields[name] for name in ("conv1", "maxpool", "layer4.2")] == [(7, 2), (11, 4), (899, 32)]

# %% [markdown]
# A formula is worth a check. Take one number in the middle of a layer's output, and ask by backpropagation which columns of
# the input it depends on: where the gradient is not zero. For that check all weights are made positive and the maximum is
# replaced by a mean over the same places, so that no gradient is cancelled, cut off by a ReLU, or lost to a louder neighbour.

# %%
check = copy.deepcopy(trained.net).double()
check.maxpool = nn.AvgPool2d(3, stride=2, padding=1)
for module in check.modules():
    if isinstance(module, nn.Conv2d):
        nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    if isinstance(module, nn.BatchNorm2d):
        module.reset_parameters()  # in evaluation mode it now changes nothing


layers = [name for name in fields if not SMALL or name in ("conv1", "maxpool", "layer1.2", "layer4.2")]


def gradients_by_column(net: nn.Module, spectrograms: torch.Tensor) -> dict[str, np.ndarray]:
    """How much each input column moves the numbers in the middle of a layer's maps: shape (columns,) for each layer."""
    outputs: dict[str, torch.Tensor] = {}
    for name in layers:
        net.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, n=name: outputs.update({n: output})
        )
    spectrograms = spectrograms.clone().requires_grad_()
    net(spectrograms)
    by_layer = {}
    for name, maps in outputs.items():
        middle = maps[:, :, maps.shape[2] // 2, maps.shape[3] // 2].sum()
        (gradient,) = torch.autograd.grad(middle, spectrograms, retain_graph=True)
        by_layer[name] = gradient.abs().sum((0, 1, 2)).numpy()
    return by_layer


wide = torch.ones(1, 1, 8 if SMALL else 32, 1024, dtype=torch.float64)
touched = {layer: np.flatnonzero(gradient) for layer, gradient in gradients_by_column(check, wide).items()}
measured = {layer: int(columns[-1] - columns[0] + 1) for layer, columns in touched.items()}
assert measured == {layer: fields[layer][0] for layer in layers}

# %% [markdown]
# The formula holds for every layer. But a column inside the field may hardly count: there are many more paths to its middle
# than to its ends, so that the *effective* receptive field is smaller (Luo et al. 2016). It is measured on the trained network
# and real sounds: the fewest columns around the middle that hold 95 % of the gradient.

# %%
long = [one for label in ("murmur", "normal") for one in recordings(label, 1 if SMALL else 3)]
repeated = [np.resize(one.spectrogram, (1024, SPECTROGRAM.mel_bands)) for one in long]  # 33 s each
gradients = gradients_by_column(copy.deepcopy(trained.net), as_images(np.stack(repeated)))


def effective(gradient: np.ndarray) -> int:
    """The fewest columns around the gradient's middle that hold 95 % of it."""
    columns = np.arange(len(gradient))
    distance = np.abs(columns - np.average(columns, weights=gradient))
    nearest = np.argsort(distance)
    last = np.searchsorted(np.cumsum(gradient[nearest]), 0.95 * gradient.sum())
    return int(2 * distance[nearest][last] + 1)


def duration_s(columns: int) -> float:
    """A column hears one window of sound, and each further one a hop more."""
    return (columns - 1) * SPECTROGRAM.hop_s + SPECTROGRAM.window_s


field_s = {layer: duration_s(fields[layer][0]) for layer in layers}
effective_s = {layer: duration_s(effective(gradients[layer])) for layer in layers}
table([
    {"layer": layer, "step (columns)": fields[layer][1], "field (columns)": fields[layer][0], "by gradient": measured[layer],
     "mel bands": min(fields[layer][0], SPECTROGRAM.mel_bands), "field (ms)": f"{1000 * field_s[layer]:,.0f}",
     "heart cycles": f"{field_s[layer] / cycle_s:.1f}", "95 % of the gradient (ms)": f"{1000 * effective_s[layer]:,.0f}"}
    for layer in layers
])  # fmt: skip

# %%
window_s = duration_s(WIDTH)
whole_cycle = next(layer for layer in layers if field_s[layer] >= cycle_s)
whole_window = next(layer for layer in layers if field_s[layer] >= window_s)
say(
    f"**A whole heart cycle** ({1000 * cycle_s:.0f} ms here) fits into the field from `{whole_cycle}` on; only from there does "
    f"one number see a whole systole and a whole diastole. From `{whole_window}` on the field is larger than the whole window of "
    f"{window_s:.1f} s: most of what the last layers could see is padding. In frequency all {SPECTROGRAM.mel_bands} bands are "
    f"within the field from `{next(layer for layer in layers if fields[layer][0] >= SPECTROGRAM.mel_bands)}` on. Of the last "
    f"layer's {field_s['layer4.2']:.0f} s, 95 % of the gradient is in {effective_s['layer4.2']:.1f} s, "
    f"{effective_s['layer4.2'] / cycle_s:.1f} heart cycles."
)

# %% tags=["remove_input"]
figure, axes = plt.subplots(figsize=(9, 3.4), layout="constrained")
draw(axes, image[0, 0], "Receptive fields on the recording", cmap="gray")
boxes = [name for name in ("conv1", "maxpool", "layer1.0", "layer1.2", "layer2.0") if name in layers]
for number, layer in enumerate(boxes):
    width, height = fields[layer][0], min(fields[layer][0], SPECTROGRAM.mel_bands - len(boxes) + number)
    corner = (WIDTH - width) / 2, (SPECTROGRAM.mel_bands - height - 1) / 2
    axes.add_patch(plt.Rectangle(corner, width, height, fill=False, color=f"C{number}", linewidth=2, label=layer))
s1 = beats.s1_s * 1000 / COLUMN_MS
for at in s1[s1 < WIDTH]:
    axes.axvline(at, color="white", linestyle=":", linewidth=1)
axes.set_xlabel(f"column ({COLUMN_MS:.0f} ms each); dotted: first heart sound of each cycle")
axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
show(figure, "Receptive fields of five layers drawn over the spectrogram, with the beginnings of heart cycles")

# %% tags=["remove_input"]
figure, axes = plt.subplots(figsize=(9, 3.6), layout="constrained")
axes.semilogy(layers, list(field_s.values()), "o-", label="receptive field")
axes.semilogy(layers, list(effective_s.values()), "s--", label="95 % of the gradient")
for value, text in ((cycle_s, "heart cycle"), (window_s, "window")):
    axes.axhline(value, color="grey", linestyle=":")
    axes.text(1.01, value, text, va="center", color="grey", transform=axes.get_yaxis_transform())
axes.set(title="What one number of a layer depends on", ylabel="duration (s)", xlabel="layer of resnet34")
axes.tick_params(axis="x", rotation=60)
axes.legend()
show(figure, "Receptive field and effective receptive field in seconds by layer")

# %% [markdown]
# Sources: Dumoulin & Visin 2016 (*A guide to convolution arithmetic for deep learning*); Araujo, Norris & Sim 2019 (*Computing
# receptive fields of convolutional neural networks*, Distill); Luo et al. 2016 (*Understanding the effective receptive field in
# deep convolutional neural networks*, NeurIPS); Saxe et al. 2011 (*On random weights and unsupervised feature learning*, ICML); He et al. 2016 (*Deep residual learning for image recognition*, CVPR).

# %% tags=["remove_input"]
footer(1, f"Sounds: {RECORDINGS}.", f"Network: {trained.origin}.")
