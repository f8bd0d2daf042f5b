# %% [markdown]
# # 2. Pooling
#
# Pooling replaces a patch of numbers by one: the largest (max pooling) or the mean. The map becomes smaller, later layers
# become cheaper and see more of it. It is often said to make a network indifferent to small shifts. This page shows what each
# kind does to real activations, and measures how indifferent the network really is.

# %%
import copy

import matplotlib.pyplot as plt
import numpy as np
import torch
from common import RECORDINGS, SMALL, WIDTH, backbone, draw, footer, images, recordings, say, show, table
from torch import nn
from torch.nn.functional import avg_pool2d, max_pool1d, max_pool2d

from heartdata.dataset.windows import as_images

# %% [markdown]
# ## By hand
#
# Patches of 2 by 2, moved by 2:
#
# ```
# 1 2 | 0 0
# 3 6 | 0 4      max: 6 4      mean: 3 1
# ----+----           8 2            4 1
# 8 0 | 1 2
# 8 0 | 1 0
# ```
#
# The gradient goes back the way the numbers came: all of it to the largest, or an equal share to each. So with max pooling
# only the winner learns, and with mean pooling all do, a little.

# %%
patches = torch.tensor([[1.0, 2, 0, 0], [3, 6, 0, 4], [8, 0, 1, 2], [8, 0, 1, 0]])[None, None]
assert max_pool2d(patches, 2)[0, 0].tolist() == [[6, 4], [8, 2]]
assert avg_pool2d(patches, 2)[0, 0].tolist() == [[3, 1], [4, 1]]

patches.requires_grad_()
(to_winner,) = torch.autograd.grad(max_pool2d(patches, 2)[0, 0, 0, 0], patches)
(to_all,) = torch.autograd.grad(avg_pool2d(patches, 2)[0, 0, 0, 0], patches)
assert to_winner[0, 0, :2, :2].tolist() == [[0, 0], [0, 1]]
assert to_all[0, 0, :2, :2].tolist() == [[0.25, 0.25], [0.25, 0.25]]

# %% [markdown]
# And the weak point, with the example of Zhang (2019): the same signal, one sample later, is another one after max pooling
# with stride 2. Every other place is thrown away, and which ones those are depends on where the signal happens to begin.

# %%
signal = torch.tensor([0.0, 0, 1, 1, 0, 0, 1, 1])
assert max_pool1d(signal[None], 2)[0].tolist() == [0, 1, 0, 1]
assert max_pool1d(signal.roll(1)[None], 2)[0].tolist() == [1, 1, 1, 1]

# %% [markdown]
# ## On real activations
#
# resnet34 has two pooling layers: max pooling of 3 by 3 with stride 2 after the first convolution, and a mean over the whole
# map before the last layer. The first, with mean pooling of the same size beside it, on 64 maps of each recording:

# %%
trained = backbone()
per_class = 1 if SMALL else 12
recorded = [one for label in ("murmur", "normal") for one in recordings(label, per_class)]
with torch.no_grad():
    before = trained.net.relu(trained.net.bn1(trained.net.conv1(images(recorded))))
after = {
    "max": max_pool2d(before, 3, stride=2, padding=1),
    "mean": avg_pool2d(before, 3, stride=2, padding=1, count_include_pad=False),
}
assert bool((after["max"] >= after["mean"]).all())
peaks = before.amax((2, 3))
assert torch.equal(after["max"].amax((2, 3)), peaks)
live = peaks > 0
table([
    {"": name, "numbers in a map": f"{maps.shape[2]} x {maps.shape[3]}", "mean": f"{maps.mean():.3f}",
     "zeros": f"{(maps == 0).float().mean():.0%}", "of a map's peak": f"{(maps.amax((2, 3)) / peaks)[live].mean():.0%}",
     "deviation / mean": f"{(maps.std((2, 3)) / maps.mean((2, 3)))[live].mean():.2f}"}
    for name, maps in {"before": before, **after}.items()
])  # fmt: skip

# %% tags=["remove_input"]
channel = int(before[0].std((1, 2)).argmax())
figure, rows = plt.subplots(3, figsize=(9, 5.4), layout="constrained")
for axes, (name, maps) in zip(
    rows, {"Before pooling": before, "Max": after["max"], "Mean": after["mean"]}.items(), strict=True
):
    shown = maps[0, channel]
    drawn = draw(
        axes,
        shown,
        f"{name}: map {channel} of {recorded[0].name}",
        cmap="magma",
        vmin=0,
        vmax=float(before[0, channel].max()),
    )
    step = WIDTH // shown.shape[1]
    axes.set(xlabel=f"column ({step * 32} ms each)", ylabel=f"row ({step} bands)")
    figure.colorbar(drawn, label="activation")
show(figure, "One map of the first layer before pooling, after max pooling and after mean pooling")

# %% [markdown]
# Max keeps every peak at full height and widens it: a short heart sound stays as loud as it was, and so does a click of the
# microphone. Mean keeps the average and flattens peaks: good for a murmur, which lasts, bad for what is short.
#
# The other pooling layer, the mean over the last map (1 by 4 places of 512 numbers), decides about the whole window. What if
# it took the maximum instead? The last layer was trained on means, so this says how far the two are apart, not which of them
# would be better after a training of its own.


# %%
def last_maps(net: nn.Module, windows: torch.Tensor) -> torch.Tensor:
    """What the global pooling layer gets: shape (n, 512, 1, 4)."""
    body = nn.Sequential(*list(net.children())[:-2])
    with torch.no_grad():
        return torch.cat([body(batch) for batch in windows.split(64)])


def probabilities(net: nn.Module, features: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return net.fc(features).softmax(1)


def change(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Relative change of each row, by Euclidean norm: shape (n,)."""
    return (a - b).flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1)


maps = last_maps(trained.net, images(recorded))
by_mean, by_max = maps.mean((2, 3)), maps.amax((2, 3))
p_mean, p_max = probabilities(trained.net, by_mean), probabilities(trained.net, by_max)
with torch.no_grad():
    assert torch.allclose(p_mean, trained.net(images(recorded)).softmax(1), atol=1e-4)
other = int((p_mean.argmax(1) != p_max.argmax(1)).sum())
say(
    f"The maximum is {by_max.mean() / by_mean.mean():.1f} times the mean; features change by {change(by_max, by_mean).mean():.0%}, and "
    f"{other} of {len(recorded)} windows get another most probable class. The mean of the highest class probability goes from "
    f"{p_mean.amax(1).mean():.2f} to {p_max.amax(1).mean():.2f}."
)

# %% [markdown]
# ## What a shift does
#
# The same recording, cut 1 to 16 columns (32 to 512 ms) later. A doctor would hear the same heart; what does the network
# see? Four networks are compared, all with the trained weights, alike but for the first pooling layer:
#
# - **max**: 3 by 3 with stride 2, as in training;
# - **mean**: the mean of the same places;
# - **none**: every other number, as a convolution of stride 2 without pooling would keep;
# - **max, blurred**: maximum with stride 1, then a binomial blur, then every other number (Zhang 2019).
#
# The later layers were trained behind max pooling. In each network, the means and variances of batch normalisation are
# therefore computed anew on these recordings; the weights stay. A training of its own for each would be fairer still.


# %%
class BlurPool(nn.Module):
    """A binomial filter of 3 by 3 with stride 2, on each channel."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        row = torch.tensor([0.25, 0.5, 0.25])
        kernel = torch.outer(row, row).expand(maps.shape[1], 1, 3, 3)
        padded = nn.functional.pad(maps, (1, 1, 1, 1), mode="reflect")
        return nn.functional.conv2d(padded, kernel, stride=2, groups=maps.shape[1])


assert torch.allclose(BlurPool()(torch.ones(1, 2, 8, 8)), torch.ones(1, 2, 4, 4))

pools = {
    "max": nn.MaxPool2d(3, stride=2, padding=1),
    "mean": nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
    "none": nn.MaxPool2d(1, stride=2),
    "max, blurred": nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), BlurPool()),
}


def with_pool(pool: nn.Module, windows: torch.Tensor) -> nn.Module:
    """The trained network with another first pooling layer, and batch statistics of ``windows``."""
    net = copy.deepcopy(trained.net)
    net.maxpool = pool
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the mean over all batches
    net.train()
    with torch.no_grad():
        for batch in windows.split(64):
            net(batch)
    return net.eval()


# %%
shifts = range(0, 17, 8) if SMALL else range(17)
spectrograms = [one.spectrogram for one in recorded]
shifted = [as_images(np.stack([s[at : at + WIDTH] for s in spectrograms])) for at in shifts]
nets = {name: with_pool(pool, torch.cat(shifted)) for name, pool in pools.items()}
seen = {name: [last_maps(net, windows) for windows in shifted] for name, net in nets.items()}

features = {name: [maps.mean((2, 3)) for maps in each] for name, each in seen.items()}
moved = {name: [float(change(f, each[0]).mean()) for f in each] for name, each in features.items()}
classes = {name: [probabilities(nets[name], f) for f in each] for name, each in features.items()}
moved_p = {name: [float((p - each[0]).abs().sum(1).mean() / 2) for p in each] for name, each in classes.items()}
assert all(each[0] == 0 for each in (*moved.values(), *moved_p.values()))

# %% [markdown]
# *Features*: the 512 numbers after the global mean, relative change by Euclidean norm. *Probabilities*: how much probability
# moves to other classes (half the sum of absolute differences). Means over all recordings. The classes are those of the
# network's training on synthetic recordings, and it has never seen a real one: which class it names means little here, only
# whether it stays the same.

# %% tags=["remove_input"]
figure, both = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for axes, values, title in zip(both, (moved, moved_p), ("Features", "Class probabilities"), strict=True):
    for name, each in values.items():
        axes.plot(shifts, np.multiply(100, each), ".-", label=name)
    axes.set(
        title=title, xlabel="shift (columns of 32 ms)", ylabel="change (%)", ylim=(0, None), xticks=range(0, 17, 4)
    )
figure.legend(*both[0].get_legend_handles_labels(), title="first pooling", loc="outside right center")
show(figure, "Change of features and of class probabilities by the shift of the input, for four kinds of pooling")


# %%
def other_class(name: str) -> str:
    """Windows that some shift gives another most probable class."""
    labels = torch.stack([p.argmax(1) for p in classes[name]])
    return f"{int((labels != labels[0]).any(0).sum())} of {len(recorded)}"


def at(values: list[float], columns: int) -> str:
    return f"{values[list(shifts).index(columns)]:.1%}" if columns in shifts else ""


table([
    {"first pooling": name, **{f"features, by {d}": at(moved[name], d) for d in (1, 2, 4, 8, 16)},
     "features, 1 to 16": f"{np.mean(moved[name][1:]):.1%}", "probabilities, 1 to 16": f"{np.mean(moved_p[name][1:]):.1%}",
     "class changes": other_class(name)}
    for name in pools
])  # fmt: skip
steadiest, least_steady = (choose(moved, key=lambda name: np.mean(moved[name][1:])) for choose in (min, max))
apart = float(change(features["max"][0].roll(1, 0), features["max"][0]).mean())
ratio = np.mean(moved[least_steady][1:]) / np.mean(moved[steadiest][1:])
say(
    f"Features change least with *{steadiest}* and most with *{least_steady}*, {ratio:.2f} times as much. With max pooling "
    f"{other_class('max')} windows get another class at some shift: pooling alone makes no network indifferent to shifts. "
    f"To compare: the features of two different recordings are {apart:.0%} apart. And part of every change is real: by 16 "
    "columns, an eighth of the window is other sound."
)


# %% [markdown]
# **The teeth** in the curves are the strides. By 4 columns, the map behind the first pooling layer moves by exactly one place,
# and all is as before but for the borders; 8 columns do the same for the second stage of the network, 16 for the third. In
# between, every stride picks other numbers than before: aliasing, as in a recording that is resampled without a low-pass
# filter. A blur is that filter. It comes too late for odd shifts, which the stride of the first convolution has aliased in
# all four networks, before any pooling.
#
# A mean is a low-pass filter too, and yet *mean* may change more than *max* here. This comparison cannot rank it: the weights
# behind it were trained on the output of max pooling, and only batch normalisation was computed anew. *Max, blurred* gives
# them nearly what they were trained on.


# %%
def at_mean(name: str, chosen: list[int]) -> str:
    """Mean change of features over some shifts."""
    return f"{np.mean([moved[name][list(shifts).index(shift)] for shift in chosen]):.1%}" if chosen else ""


whole = [shift for shift in shifts if shift and shift % 4 == 0]
between = [shift for shift in shifts if shift % 4]
table([
    {"first pooling": name, "features, by 4, 8, 12, 16": at_mean(name, whole), "by all other shifts": at_mean(name, between)}
    for name in pools
])  # fmt: skip

# %% [markdown]
# ## What else makes it steadier
#
# The last pooling layer. Before it, the map still says *where* (each of its 4 places stands for 32 columns); the global mean
# forgets the place. The same shifts in the network as it was trained, with its own batch statistics, before and after it:

# %%
as_trained = [last_maps(trained.net, windows) for windows in shifted]
stages = {
    "last map, before pooling": as_trained,
    "global mean (as trained)": [maps.mean((2, 3)) for maps in as_trained],
    "global max": [maps.amax((2, 3)) for maps in as_trained],
}
steady = {name: [float(change(v, each[0]).mean()) for v in each] for name, each in stages.items()}
rows = [{"": name, "mean change over all shifts": f"{np.mean(each[1:]):.1%}"} for name, each in steady.items()]
table(rows)

# %% tags=["remove_input"]
figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
for name, each in steady.items():
    axes.plot(shifts, np.multiply(100, each), ".-", label=name)
axes.set(
    title="The last map and what is pooled from it",
    xlabel="shift (columns of 32 ms)",
    ylabel="change (%)",
    ylim=(0, None),
    xticks=range(0, 17, 4),
)
axes.legend()
show(figure, "Change by shift before global pooling, after the global mean and after the global maximum")

# %% [markdown]
# And what is left can be averaged away: this project scores a recording by the mean of the probabilities over half-overlapping
# windows, and trains on windows at random places ([training](../training.md)), so that no place of a beat in the window is special.
#
# Sources: Zhang 2019 (*Making convolutional networks shift-invariant again*, ICML); Azulay & Weiss 2019 (*Why do deep convolutional
# networks generalize so poorly to small image transformations?*, JMLR); Lin, Chen & Yan 2014 (*Network in network*, ICLR), for the
# global mean; Boureau, Ponce & LeCun 2010 (*A theoretical analysis of feature pooling in visual recognition*, ICML).

# %% tags=["remove_input"]
footer(2, f"Sounds: {RECORDINGS}.", f"Network: {trained.origin}.")
