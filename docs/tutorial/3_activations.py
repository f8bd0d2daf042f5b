# %% [markdown]
# # 3. Activations
#
# Two convolutions in a row are one convolution: without something that bends between them, a network of any depth is linear.
# The activation function is what bends. This page shows six of them, what their gradients cost in time, measured, and what
# they do to gradients on the way down a deep network that sees heart sounds.

# %%
import statistics
import time
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import torch
from common import RECORDINGS, SMALL, footer, images, recordings, say, show, table
from torch import nn
from torch.nn import functional as F
from torch.utils.benchmark import Timer

from heartdata.training.network import build_net

_ = torch.manual_seed(0)

# %% [markdown]
# ## Values and gradients
#
# | | value at x | gradient at x | from |
# | --- | --- | --- | --- |
# | ReLU | max(0, x) | 1 if x > 0, else 0 | Nair & Hinton 2010 |
# | leaky ReLU | x if x > 0, else 0.01 x | 1 if x > 0, else 0.01 | Maas et al. 2013 |
# | GELU | x Φ(x) | Φ(x) + x φ(x) | Hendrycks & Gimpel 2016 |
# | SiLU (swish) | x σ(x) | σ(x) (1 + x (1 − σ(x))) | Elfwing et al. 2018 |
# | sigmoid σ | 1 / (1 + e⁻ˣ) | σ(x) (1 − σ(x)) | |
# | tanh | (eˣ − e⁻ˣ) / (eˣ + e⁻ˣ) | 1 − tanh²(x) | |
#
# Φ and φ are distribution function and density of the standard normal distribution. At exactly 0, where ReLU has no
# derivative, torch takes 0. Written in numpy and compared with what autograd says:

# %%
NORMAL = torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), 1)


def density(x: torch.Tensor) -> torch.Tensor:
    return NORMAL.log_prob(x).exp()


ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "ReLU": F.relu, "leaky ReLU": F.leaky_relu, "GELU": F.gelu, "SiLU": F.silu, "sigmoid": torch.sigmoid, "tanh": torch.tanh,
}  # fmt: skip
BY_HAND = {  # value, gradient
    "ReLU": (lambda x: x.clamp(min=0), lambda x: (x > 0).double()),
    "leaky ReLU": (lambda x: torch.where(x > 0, x, 0.01 * x), lambda x: torch.where(x > 0, 1.0, 0.01).double()),
    "GELU": (lambda x: x * NORMAL.cdf(x), lambda x: NORMAL.cdf(x) + x * density(x)),
    "SiLU": (lambda x: x / (1 + (-x).exp()), lambda x: (1 + x * (1 - 1 / (1 + (-x).exp()))) / (1 + (-x).exp())),
    "sigmoid": (lambda x: 1 / (1 + (-x).exp()), lambda x: (-x).exp() / (1 + (-x).exp()) ** 2),
    "tanh": (lambda x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp()), lambda x: 1 - torch.tanh(x) ** 2),
}


def gradient(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)[0]


x = torch.linspace(-6, 6, 1201, dtype=torch.float64)
for name, function in ACTIVATIONS.items():
    value, slope = BY_HAND[name]
    assert torch.allclose(function(x), value(x), atol=1e-12), name
    assert torch.allclose(gradient(function, x), slope(x), atol=1e-12), name

# %% tags=["remove_input"]
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for name, function in ACTIVATIONS.items():
    left.plot(x, function(x), label=name)
    right.plot(x, gradient(function, x), label=name)
left.set(title="Values", xlabel="x", ylabel="f(x)", xlim=(-4, 4), ylim=(-1.2, 3))
right.set(title="Gradients", xlabel="x", ylabel="f '(x)", xlim=(-4, 4))
left.legend()
show(figure, "Values and gradients of ReLU, leaky ReLU, GELU, SiLU, sigmoid and tanh from -4 to 4")

# %%
steepest = {name: float(gradient(function, x).max()) for name, function in ACTIVATIONS.items()}
table([
    {"activation": name, "f(-2)": f"{function(torch.tensor(-2.0)):.3f}", "f(0)": f"{function(torch.tensor(0.0)):.3f}",
     "f(2)": f"{function(torch.tensor(2.0)):.3f}", "largest gradient": f"{steepest[name]:.3f}",
     "gradient at -4": f"{gradient(function, torch.tensor(-4.0)):.4f}",
     "gradient at 4": f"{gradient(function, torch.tensor(4.0)):.4f}"}
    for name, function in ACTIVATIONS.items()
])  # fmt: skip
assert steepest["sigmoid"] == 0.25
assert steepest["ReLU"] == steepest["leaky ReLU"] == steepest["tanh"] == 1
assert abs(steepest["GELU"] - (NORMAL.cdf(torch.tensor(2**0.5)) + 2**0.5 * density(torch.tensor(2**0.5)))) < 1e-4

# %% [markdown]
# Two things to remember for later: the gradient of a sigmoid is nowhere above ¼, and those of sigmoid and tanh go to 0 on both
# sides (they *saturate*), while ReLU passes gradients unchanged wherever it is on, and none where it is off.
#
# ## Time to compute
#
# How measured: tensors as large as resnet34's activations for a batch of 16 windows, after the first convolution and in the
# last block, and a tiny one. Forward and backward are timed apart, the backward pass alone by `torch.autograd.grad` on a kept graph. Every
# measurement is a block of many calls by `torch.utils.benchmark`, after a warm-up. All functions take their turn in every
# round, so that a busy machine hits all of them, and each is divided by ReLU *of the same round*; shown are medians over the
# rounds, and the interquartile range (IQR) of the ratio.

# %%
SHAPES = {"first convolution": (16, 64, 16, 64), "last block": (16, 512, 1, 4), "tiny": (16, 64)}
ROUNDS, BLOCK_S = (2, 0.0005) if SMALL else (21, 0.02)


def timers(shape: tuple[int, ...], dtype: torch.dtype) -> dict[tuple[str, str], Timer]:
    """For each activation and direction, what measures it; each has been called once."""
    made = {}
    for name, function in ACTIVATIONS.items():
        x = torch.randn(shape).to(dtype).requires_grad_()
        y = function(x)
        names = {"f": function, "x": x, "y": y, "g": torch.randn_like(y), "grad": torch.autograd.grad}
        threads = torch.get_num_threads()
        made[name, "forward"] = Timer("f(x)", globals=names, num_threads=threads)
        made[name, "backward"] = Timer("grad(y, x, g, retain_graph=True)", globals=names, num_threads=threads)
    for timer in made.values():
        timer.timeit(3)
    return made


measured: dict[tuple[str, str, str, str], list[float]] = {}
for place, shape in SHAPES.items():
    for dtype in ("float32", "bfloat16"):
        made = timers(shape, getattr(torch, dtype))
        for _ in range(ROUNDS):
            for (name, direction), timer in made.items():
                seconds = timer.blocked_autorange(min_run_time=BLOCK_S).median
                measured.setdefault((place, dtype, direction, name), []).append(seconds)


def ratios(place: str, dtype: str, direction: str, name: str) -> np.ndarray:
    """Time over that of ReLU in the same round: quartiles."""
    rounds = np.divide(measured[place, dtype, direction, name], measured[place, dtype, direction, "ReLU"])
    return np.percentile(rounds, [25, 50, 75])


# %% tags=["remove_input"]
figure, rows = plt.subplots(2, 2, figsize=(9, 5), layout="constrained", sharex=True)
large = next(iter(SHAPES))
for axes_row, dtype in zip(rows, ("float32", "bfloat16"), strict=True):
    for axes, direction in zip(axes_row, ("forward", "backward"), strict=True):
        low, middle, high = np.transpose([ratios(large, dtype, direction, name) for name in ACTIVATIONS])
        axes.bar(
            list(ACTIVATIONS), middle, yerr=[middle - low, high - middle], capsize=4, color=[f"C{i}" for i in range(6)]
        )
        axes.axhline(1, color="grey", linestyle=":")
        axes.set(title=f"{direction}, {dtype}", ylabel="time / ReLU")
        axes.tick_params(axis="x", rotation=40)
figure.suptitle(f"{np.prod(SHAPES[large]):,} numbers: median of {ROUNDS} rounds, bars: IQR")
show(figure, "Time of each activation relative to ReLU, forward and backward, in float32 and bfloat16")

# %%
table([
    {"numbers": f"{np.prod(SHAPES[place]):,} ({place})", "dtype": dtype, "activation": name,
     **{f"{direction}{unit}": text for direction in ("forward", "backward") for unit, text in (
         (" (µs)", f"{1e6 * statistics.median(measured[place, dtype, direction, name]):,.1f}"),
         (" / ReLU (IQR)", "{1:.2f} ({0:.2f}-{2:.2f})".format(*ratios(place, dtype, direction, name))))}}
    for place in SHAPES for dtype in ("float32", "bfloat16") for name in ACTIVATIONS
])  # fmt: skip

# %%
backward = {name: ratios(large, "float32", "backward", name) for name in ACTIVATIONS if name != "ReLU"}
forward = {name: ratios(large, "float32", "forward", name) for name in ACTIVATIONS if name != "ReLU"}
slowest, fastest = (choose(backward, key=lambda name: backward[name][1]) for choose in (max, min))
no_different = [name for name, (low, _, high) in backward.items() if low <= 1 <= high]
spread = {place: max(ratios(place, "float32", "backward", name)[1] for name in backward) for place in ("tiny", large)}
say(
    f"**The gradient** of the large float32 tensor takes {backward[slowest][1]:.1f} times as long as ReLU's with {slowest} (the "
    f"slowest here) and {backward[fastest][1]:.1f} times with {fastest}; not to be told from ReLU (the IQR "
    f"of the ratio includes 1): {', '.join(no_different) or 'none'}. **Forward**, the slowest is {max(forward, key=lambda name: forward[name][1])} with "
    f"{max(middle for _, middle, _ in forward.values()):.1f} times ReLU. On the tiny tensor, where calling a function costs more than "
    f"computing it, the slowest gradient takes {spread['tiny']:.1f} times as long, on the large one {spread[large]:.1f} times."
)

# %% [markdown]
# The gradients of sigmoid and tanh are computed from their saved *output* with a few multiplications, ReLU's from a
# comparison; GELU and SiLU save their *input* and need an exponential again on the way back.
#
# ## How much of a training step is that?
#
# A multiple of ReLU sounds like a lot, until one asks: of what? Here all activations of a resnet34 are replaced at once, and whole training
# steps are timed (forward, loss, backward, AdamW; float32, batch of 16 windows), the variants taking turns as before. With
# *none*, the identity, a step costs what everything else costs; the rest is the activation's share. The network itself has
# ReLU in place (it overwrites its input), so it is listed too.

# %%
per_class, BATCH = (1, 2) if SMALL else (8, 16)
recorded = [one for label in ("murmur", "normal") for one in recordings(label, per_class)]
windows = images(recorded)[:BATCH]
labels = torch.tensor([float(one.label == "murmur") for one in recorded]).long()[:BATCH]


class Activation(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def with_activation(net: nn.Module, activation: nn.Module) -> nn.Module:
    """``net`` with another activation in place of every ReLU."""
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, activation)
    return net


variants = {"none": lambda x: x, "ReLU in place": F.relu_, **ACTIVATIONS}
bend = Activation(F.relu)
resnet = with_activation(build_net(2), bend)
optimiser = torch.optim.AdamW(resnet.parameters(), 1e-5)


def step_s(name: str) -> float:
    """Seconds of one training step with a variant."""
    bend.function = variants[name]
    began = time.perf_counter()
    optimiser.zero_grad()
    F.cross_entropy(resnet(windows), labels).backward()
    optimiser.step()
    return time.perf_counter() - began


warm, *rounds = [{name: step_s(name) for name in variants} for _ in range(2 if SMALL else 16)]


def quartiles(values: list[float], form: str) -> str:
    """Median and interquartile range."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


shares = {name: [1 - each["none"] / each[name] for each in rounds] for name in variants if name != "none"}
table([
    {"activation": name, "step (ms, median)": f"{1000 * statistics.median(each[name] for each in rounds):,.0f}",
     "step / ReLU (IQR)": quartiles([each[name] / each["ReLU"] for each in rounds], ".3f"),
     "share of the step (IQR)": quartiles(shares[name], ".1%") if name in shares else ""}
    for name in variants
])  # fmt: skip

# %% [markdown]
# A second opinion by `torch.profiler`, which adds up the time inside torch's own functions during one step of the network as
# it is, ReLU in place. (It cannot see what a separate pass over memory does to the functions before and after it.)

# %%
with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
    step_s("ReLU in place")
spent = {event.key: event.self_cpu_time_total for event in profile.key_averages()}
relu = sum(spent.get(name, 0) for name in ("aten::relu_", "aten::clamp_min_", "aten::threshold_backward"))
convolutions = sum(value for name, value in spent.items() if "conv" in name)
by_profiler = relu / sum(spent.values())
assert 0 < by_profiler < 1
say(
    f"By the profiler, ReLU takes {by_profiler:.1%} of the step and convolutions {convolutions / sum(spent.values()):.0%}. By "
    f"replacement, ReLU in place takes {np.median(shares['ReLU in place']):.1%}, and the dearest activation, "
    f"{max(shares, key=lambda name: np.median(shares[name]))}, {max(np.median(each) for each in shares.values()):.1%}."
)

# %% [markdown]
# ## Gradients that vanish with depth
#
# Backpropagation multiplies: through each layer, the gradient is multiplied by the layer's weights and by the gradient of its
# activation. With sigmoids, the latter is at most ¼. A chain of ten with weight 1:

# %%
start = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
value, product = start, 1.0
for _ in range(10):
    value = torch.sigmoid(value)
    product *= value.item() * (1 - value.item())
(through_ten,) = torch.autograd.grad(value, start)
assert abs(float(through_ten) - product) < 1e-15
assert product < 0.25**10
say(
    f"The gradient through ten sigmoids is {product:.1e}, and can never be above ¼ to the power of ten, {0.25**10:.1e}."
)

# %% [markdown]
# In a network the weights can make up for some of it, if they begin at the right size. He et al.'s initialisation (2015) was
# made for ReLU, Glorot & Bengio's (2010) for tanh; sigmoid gets the latter with torch's gain of 1, which does not make up for its
# slope of ¼. The networks are plain: 3 by 3 convolutions of 32 maps, one after the other, without batch normalisation and without skip connections, then a mean and a
# linear layer. They see real spectrograms. Shown is, for each layer, the norm of the gradient over the norm of the weights,
# which is how much of itself a step of gradient descent with rate 1 would change; after one backward pass.


# %%
def plain_net(depth: int, activation: str) -> nn.Sequential:
    layers: list[nn.Module] = [nn.AvgPool2d(2)]  # a quarter of the numbers, for speed
    for number in range(depth):
        convolution = nn.Conv2d(32 if number else 1, 32, 3, padding=1)
        if activation == "ReLU":
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        else:
            nn.init.xavier_normal_(convolution.weight, gain=nn.init.calculate_gain(activation))
        nn.init.zeros_(convolution.bias)
        layers += [convolution, Activation(ACTIVATIONS[activation])]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 2))


def gradient_by_layer(net: nn.Module) -> np.ndarray:
    """Norm of the gradient over norm of the weights in each convolution, first to last."""
    convolutions = [m for name, m in net.named_modules() if isinstance(m, nn.Conv2d) and "downsample" not in name]
    net.zero_grad()
    F.cross_entropy(net(windows), labels).backward()
    norms = [(m.weight.grad.double().norm() / m.weight.double().norm()).item() for m in convolutions]
    return np.maximum(norms, np.finfo(float).tiny)  # so that 0 has a logarithm


DEPTHS, DRAWS = ((4, 8), 1) if SMALL else ((2, 4, 8, 16, 32), 3)


def typical(build: Callable[[], nn.Module]) -> np.ndarray:
    """`gradient_by_layer`, geometric mean over several random initialisations."""
    return np.exp(np.mean([np.log(gradient_by_layer(build())) for _ in range(DRAWS)], axis=0))


by_layer = {
    name: {depth: typical(lambda d=depth, n=name: plain_net(d, n)) for depth in DEPTHS}
    for name in ("sigmoid", "tanh", "ReLU")
}
arrives = {name: {depth: layers[0] / layers[-1] for depth, layers in each.items()} for name, each in by_layer.items()}

# %% tags=["remove_input"]
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
deepest = max(DEPTHS)
for name, each in by_layer.items():
    left.semilogy(range(1, deepest + 1), each[deepest], ".-", label=name)
    right.loglog(DEPTHS, list(arrives[name].values()), ".-", label=name)
left.set(title=f"Plain network of {deepest} layers", xlabel="layer", ylabel="gradient / weights (norms)")
right.set(title="First layer against last", xlabel="depth (layers)", ylabel="ratio of their gradients")
right.set_xticks(DEPTHS, [str(depth) for depth in DEPTHS])
right.minorticks_off()
left.legend()
show(figure, "Gradient by layer of a plain network, and the gradient of the first layer against the last by depth")

# %%
table([
    {"activation": name, **{f"first / last, {depth} layers": f"{ratio:.1e}" for depth, ratio in each.items()}}
    for name, each in arrives.items()
])  # fmt: skip
lost = {name: each[deepest] for name, each in arrives.items()}
say(
    f"With {deepest} sigmoid layers the first layer gets {lost['sigmoid']:.0e} times the gradient of the last, with tanh "
    f"{lost['tanh']:.2g}, with ReLU {lost['ReLU']:.2g}."
)

# %% [markdown]
# Now a resnet34 with random weights (33 convolutions along its longest path): as it is, without skip connections, without
# batch normalisation, and without both; with ReLU and with sigmoid. A skip connection gives a block a way back on which the
# gradient is multiplied by 1, in all but the three blocks whose skip is a 1×1 convolution (He et al. 2016), and batch
# normalisation keeps the numbers where an activation is steep (Ioffe & Szegedy 2015). But after each addition there is an activation still, through which the skip connection leads as well: ReLU
# passes it where it is on, a sigmoid takes three quarters of it at least, 16 times.
#
# Two things to bear in mind when reading the curves. Early layers have an advantage: the gradient of a kernel is a sum over
# the places where it is used, 16 by 64 in the first layer, 1 by 4 in the last. And a curve that is low everywhere says that
# the numbers themselves have shrunk on the way forward.


# %%
def without_skips(net: nn.Module) -> nn.Module:
    """The same layers in the same order, with nothing added around them."""
    for block in (m for m in net.modules() if hasattr(m, "conv2")):
        block.downsample = None
        block.forward = lambda x, b=block: b.relu(b.bn2(b.conv2(b.relu(b.bn1(b.conv1(x))))))
    return net


def without_norm(net: nn.Module) -> nn.Module:
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
    return net


def built(activation: str, skips: bool, norm: bool) -> nn.Module:
    net = with_activation(build_net(2), Activation(ACTIVATIONS[activation]))
    net = net if skips else without_skips(net)
    return net if norm else without_norm(net)


cases = {(activation, skips, norm): typical(lambda a=activation, s=skips, n=norm: built(a, s, n))
         for activation in ("ReLU", "sigmoid") for skips in (True, False) for norm in (True, False)}  # fmt: skip
assert all(len(layers) == 33 for layers in cases.values())

# %% tags=["remove_input"]
figure, both = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained", sharey=True)
for axes, activation in zip(both, ("ReLU", "sigmoid"), strict=True):
    for (kind, skips, norm), layers in cases.items():
        if kind == activation:
            name = f"{'skips' if skips else 'no skips'}, {'batch norm' if norm else 'no batch norm'}"
            axes.semilogy(
                range(1, 34),
                layers,
                "-" if skips else "--",
                color=f"C{int(norm)}",
                label=name,
            )
    axes.set(title=f"resnet34 with {activation}", xlabel="convolution", ylabel="gradient / weights (norms)")
both[0].legend(fontsize=8)
show(figure, "Gradient by layer of resnet34 with and without skip connections and batch normalisation")

# %%
table([
    {"activation": activation, "skip connections": "yes" if skips else "no", "batch norm": "yes" if norm else "no",
     "first layer": f"{layers[0]:.1e}", "last layer": f"{layers[-1]:.1e}", "first / last": f"{layers[0] / layers[-1]:.1e}",
     "smallest / largest": f"{layers.min() / layers.max():.1e}"}
    for (activation, skips, norm), layers in cases.items()
])  # fmt: skip
range_of = {case: layers.min() / layers.max() for case, layers in cases.items()}
say(
    f"Between its layers, the gradient of resnet34 as it is differs by a factor of {1 / range_of['ReLU', True, True]:,.0f}; without skip "
    f"connections, by {1 / range_of['ReLU', False, True]:,.0f}. With sigmoids and neither skips nor batch normalisation, the first "
    f"layer gets {cases['sigmoid', False, False][0] / cases['sigmoid', False, False][-1]:.0e} of the gradient of the last; with both, "
    f"{cases['sigmoid', True, True][0] / cases['sigmoid', True, True][-1]:.2g}."
)

# %% [markdown]
# This is one backward pass at the start of training: it says which layers can begin to learn, not how good the network will
# be. Plain deep networks train worse than those with skip connections even where gradients do arrive (He et al. 2016).
#
# Sources: Nair & Hinton 2010 (ICML); Maas, Hannun & Ng 2013 (ICML workshop); Hendrycks & Gimpel 2016 (arXiv 1606.08415); Elfwing,
# Uchibe & Doya 2018 (Neural Networks 107); Glorot & Bengio 2010 (*Understanding the difficulty of training deep feedforward neural
# networks*, AISTATS); He et al. 2015 (*Delving deep into rectifiers*, ICCV); Ioffe & Szegedy 2015 (*Batch normalization*, ICML); He
# et al. 2016 (*Deep residual learning for image recognition*, CVPR).

# %% tags=["remove_input"]
footer(3, f"Sounds: {RECORDINGS}.", f"Processor's vector instructions: {torch.backends.cpu.get_cpu_capability()}.")
