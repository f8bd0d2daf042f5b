# %% [markdown]
# # 5. How much data
#
# More recordings make a better classifier. How many more, and how much better? Recording a subject takes an hour of somebody's
# time, so the question is worth a measurement: train on a part of the subjects, then on more of them, and look at how the score
# grows. That is a learning curve. `heartbeat study learning-curve --data FOLDER` measures one on any recordings, your own as
# well (`--source table`); this page reads its tables, and explains them.

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from common import SMALL, STUDIES, backbone, footer, images, say, show, synthetic, table
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from heartdata.dataset.split_strategies import nested_share
from heartdata.dataset.splits import SplitConfig, assign_splits
from heartdata.reports.curve_plot import draw_learning_curve
from heartdata.scoring.features import spectrogram_features
from heartdata.scoring.learning_curve import HORIZON, PowerLaw, fit_power_law
from heartdata.scoring.model_names import NETWORK, SIMPLE_FEATURES
from heartdata.scoring.text import metric_label, with_bounds
from heartdata.storage.schemas import ACCEPTED
from heartdata.studies.facts import read_study
from heartdata.studies.learning_curve import curve_rows, gain_sentences, learning_curve
from heartdata.studies.protocols import folds_of, study_named
from heartdata.studies.scores import study_metrics

# %% [markdown]
# ## Subsets by hand
#
# What is a part of the training subjects? Three things matter:
#
# - **Whole subjects.** Two recordings of one heart are not two facts. Half of the *recordings* would still be nearly all subjects.
# - **Nested.** The subjects of a smaller part are among those of a larger one: otherwise, the difference of two points on the curve
#   is also that of two groups of people.
# - **Stratified.** Each class has its share, and at least one subject: a class without any cannot be learnt.
#
# Twelve subjects of three classes, two recordings each:

# %%
people = pd.DataFrame(
    {"group": [f"s{i:02d}" for i in range(12)], "label": ["normal"] * 6 + ["murmur"] * 4 + ["extrastole"] * 2}
)
rows = people.loc[people.index.repeat(2)].reset_index(drop=True)
parts = {share: set(rows[nested_share(rows, share, seed=0)]["group"]) for share in (0.1, 0.25, 0.5, 1.0)}
assert [len(part) for part in parts.values()] == [
    3,
    3,
    6,
    12,
]  # a tenth would be one subject: one of each class instead
assert parts[0.1] <= parts[0.25] <= parts[0.5] <= parts[1.0]
half = people[people["group"].isin(parts[0.5])]["label"].value_counts()
assert half.to_dict() == {"normal": 3, "murmur": 2, "extrastole": 1}

# %% [markdown]
# ## A curve by hand
#
# Learning curves of very different problems have one shape: steep at first, then flatter, towards a plateau. An inverse power
# law says so with three numbers: score = a - b · n^-c, with the plateau *a*, and *c* for how fast it is approached. With a
# plateau of .70, and .08 missing at 100 subjects, and c = .5:
#
# - score at 100: .70 - .08 = .62;
# - at 400, four times as many: .70 - .08 / 2 = .66. Each doubling leaves 1 / sqrt(2) of the gap;
# - a gain of .02 means a gap of .06, so n = 100 · (.08 / .06)^2 = 178: 78 subjects more. The *next* .02 takes 222 more.

# %%
by_hand = PowerLaw(plateau=0.70, gap=0.08, rate=0.5, largest=100)
assert np.allclose(by_hand.score(np.array([100, 400])), [0.62, 0.66])
assert round(by_hand.more_subjects(0.02)) == 78
assert round(by_hand.more_subjects(0.04) - by_hand.more_subjects(0.02)) == 222


# %% [markdown]
# Fitted to points that lie on it, the curve comes back. Fitted to measured points, it is as uncertain as they are:

# %%
numbers = np.array([7, 13, 26, 52, 79, 105])
exact = fit_power_law(numbers, by_hand.score(numbers), [0.01] * 6)
assert math.isclose(exact.plateau, 0.70, abs_tol=1e-3)
assert math.isclose(exact.rate, 0.5, abs_tol=0.01)

rng = np.random.default_rng(0)
spread = []
for error in (0.005, 0.01, 0.02, 0.04):
    fits = [
        fit_power_law(numbers, by_hand.score(numbers) + rng.normal(0, error, 6), [error] * 6)
        for _ in range(10 if SMALL else 200)
    ]
    more = [fit.more_subjects(0.02) for fit in fits]
    low, middle, high = np.percentile(more, [2.5, 50, 97.5], method="inverted_cdf")
    shown = [f"{n:.0f}" if math.isfinite(n) else "not in sight" for n in (low, middle, high)]
    spread.append({"error of each score": f"{error:.3f}", "2.5 %": shown[0], "median": shown[1], "97.5 %": shown[2]})
say(
    f"How many more subjects than {numbers.max()} a gain of .02 takes, by fits to simulated scores. The true number is "
    f"{PowerLaw(0.70, 0.70 - by_hand.score(105), 0.5, 105).more_subjects(0.02):.0f}; *not in sight* means more than {HORIZON} times the subjects:"
)
table(spread)

# %% [markdown]
# An error of .02 is a good one for a study of a hundred subjects, and it leaves the number open. That is why the study prints the
# interval, and says so where there is no upper end.
#
# ## Measured


# %%
def tiny_study(subjects: int, seeds: int, resamples: int):
    """The study on synthetic hearts, each recorded once by another device: last layer on frozen features, and trees."""
    names = [f"s{i:03d}" for i in range(subjects)]
    labels = ["murmur" if i % 3 == 0 else "normal" for i in range(subjects)]
    sounds = [
        synthetic(label, 4.2, 10_000 + i, device=True) for i, label in enumerate(labels)
    ]  # not those of `backbone`
    net = backbone().net
    body = torch.nn.Sequential(*list(net.children())[:-1], torch.nn.Flatten())
    with torch.no_grad():
        deep = torch.cat([body(images(sounds[i : i + 16])) for i in range(0, subjects, 16)]).numpy()
    simple = np.stack([spectrogram_features(one.spectrogram, 0.032) for one in sounds])
    of_model = {NETWORK: deep, SIMPLE_FEATURES: simple}
    accepted = pa.Table.from_pylist(
        [{"recording_id": name, "sha256": name, "source": "synthetic", "collection": "synthetic", "subject": name, "label": label}
         for name, label in zip(names, labels, strict=True)],
        schema=ACCEPTED,
    )  # fmt: skip
    study = study_named("learning-curve").model_copy(update={"seeds": tuple(range(seeds))})
    rows, trained = [], []
    for fold in folds_of(study, accepted.to_pandas(), SplitConfig()):
        split = assign_splits(accepted, fold.split).to_pandas()
        at = split["recording_id"].str.removeprefix("s").astype(int).to_numpy()
        train, test = at[split["part"] == "train"], at[split["part"] == "test"]
        trained.append((fold.arm, len(train)))
        for model, features in of_model.items():
            classifier = (
                make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=500))
                if model == NETWORK
                else ExtraTreesClassifier(100, class_weight="balanced", min_samples_leaf=3, random_state=fold.seed)
            )
            truth = np.array(labels)
            p = classifier.fit(features[train], truth[train]).predict_proba(features[test])
            for i, (murmur, normal) in zip(test, p, strict=True):
                prediction = "murmur" if murmur > normal else "normal"
                rows.append((fold.arm, fold.seed, fold.name, model, names[i], labels[i], prediction, murmur, normal))
    columns = ["arm", "seed", "fold", "model", "group", "label", "prediction", "p_murmur", "p_normal"]
    predictions = pd.DataFrame(rows, columns=columns)
    sizes = pd.DataFrame(trained, columns=["arm", "subjects"]).groupby("arm", sort=False)["subjects"].mean()
    study = study.model_copy(update={"arms": tuple(sizes.index)})
    classes = ["murmur", "normal"]
    metrics = study_metrics(predictions, study, classes, resamples, 0)
    return study, learning_curve(predictions, metrics, sizes, study, classes, resamples, 0)


folder = STUDIES / "study-learning-curve"
if folder.is_dir() and not SMALL:
    record = read_study(folder)
    study, curve, gains = record.facts.study, record.curve, record.extrapolation
    origin = f"`{record.facts.command}`, recorded {record.facts.measured.recorded_at}"
else:
    study, (curve, gains) = tiny_study(40, 1, 20) if SMALL else tiny_study(150, 2, 200)
    origin = (
        "synthetic hearts, as `heartbeat study learning-curve` has not been run (its tables would be in `out/latest`, or in "
        "HEARTBEAT_STUDIES): the scores show how a curve is read, and nothing about patients"
    )
metric = metric_label(study.metric)
say(f"Measured on: {origin}.")
table(curve_rows(curve, study.metric))

# %% [markdown]
# Every row is scored on the same test subjects, so that rows can be compared. The intervals are over *test* subjects: what another
# group of people would have given. They overlap from row to row, as subjects that are hard stay hard, and yet a rise from
# row to row may be certain: overlapping intervals do not show that two rows are alike.

# %% tags=["remove_input"]
figure, axes = plt.subplots(figsize=(8, 4.4), layout="constrained")
draw_learning_curve(axes, curve, study.metric)
axes.set_title("Right of the line nothing was measured")
show(
    figure,
    "Score by number of training subjects for two models, with fitted curves that go on beyond the largest number",
)

# %% [markdown]
# ## How many more subjects
#
# The curve is fitted again to every bootstrap resample, so that what it says about more subjects has an interval too:

# %%
for sentence in gain_sentences(gains, study.metric):
    say(f"- {sentence}")
table([
    {"model": row.model, "plateau (95 % interval)": with_bounds(row.plateau, row.plateau_low, row.plateau_high),
     "resamples that reach the gain": f"{row.reached:.0%}"}
    for row in gains.itertuples()
])  # fmt: skip
say(
    "A plateau whose interval ends at 1.000 is not determined from above: the curve still rises, and how far is a guess. And these are "
    "subjects to *train* on: a fifth of all is tested on in each fold, and part of the rest validates."
)

# %% [markdown]
# Would such a forecast have been right? Hide the largest part, fit the others, and predict it:

# %%
hidden = []
for model, of_model in curve[curve["arm"].notna()].groupby("model", sort=False):
    if len(of_model) < 5:  # a curve has three parameters
        continue
    known, last = of_model.iloc[:-1], of_model.iloc[-1]
    fit = fit_power_law(known["subjects"], known["value"], (known["high"] - known["low"]) / 4)
    forecast = float(fit.score(np.array([last["subjects"]]))[0])
    hidden.append(
        {"model": model, "measured up to": f"{known['subjects'].iloc[-1]:.0f} subjects", "forecast for": f"{last['subjects']:.0f}",
         metric: f"{forecast:.3f}", "measured": with_bounds(last["value"], last["low"], last["high"])}
    )  # fmt: skip
if hidden:
    table(hidden)

# %% [markdown]
# A forecast over a third more subjects is an easy one; over ten times as many it is a hope.
#
# ## What can go wrong
#
# **The device.** The curve is about *more of the same*. A hundred more subjects from one stethoscope in one clinic teach the network
# that stethoscope. For another place, ten subjects from there may be worth more than all of them: see the study
# `cinc2016-lodo`, which holds out whole databases ([studies](../studies.md)).
#
# **Label noise.** Wrong labels in the test part put a lid on the score. If a share e of the labels of two equally common classes is
# wrong at random, a perfect classifier has accuracy 1 - e, and one of true accuracy q has q (1 - e) + (1 - q) e. So a plateau may
# be the labels' and not the network's; then a second look at labels gains more than a second year of recording
# ([report](../report.md) lists suspects).

# %%
q, e = 0.9, 0.1
n = 20_000
truth = rng.random(n) < 0.5
prediction = np.where(rng.random(n) < q, truth, ~truth)
label = np.where(rng.random(n) < e, ~truth, truth)
measured_accuracy = (prediction == label).mean()
assert math.isclose(q * (1 - e) + (1 - q) * e, 0.82)
assert abs(measured_accuracy - 0.82) < 0.015
say(
    f"A classifier that is right on {q:.0%} of hearts, scored by labels of which {e:.0%} are wrong, seems right on {measured_accuracy:.1%}."
)

# %% [markdown]
# **Few of a class.** Macro-F1 is the mean over classes, so a class of ten subjects counts as much as one of a hundred, and it is the
# class that needs the subjects. Recording whoever comes adds mostly to the class that there is enough of. Suppose 70, 24 and 6 %
# of those who come have these labels:

# %%
share = {"normal": 0.70, "murmur": 0.24, "extrastole": 0.06}
assert math.isclose(sum(share.values()), 1)
recorded = 100
table([{"class": name, f"of {recorded} more subjects": f"{recorded * s:.0f}"} for name, s in share.items()])

# %% [markdown]
# **The recipe.** This curve is of a last layer on frozen features, which needs little data and gains little from more. A network
# that is trained whole often starts lower and may end higher. A curve answers for its own recipe only.
#
# **The fit.** No law makes learning curves power laws. Some have a kink, some get worse before they get better (Viering & Loog
# 2022). The interval contains what chance does to the points; it does not contain that the shape is wrong.
#
# Sources: Figueroa et al. 2012 (*Predicting sample size required for classification performance*, BMC Medical Informatics and
# Decision Making); Viering & Loog 2022 (*The shape of learning curves: a review*, IEEE TPAMI); Hestness et al. 2017 (*Deep learning
# scaling is predictable, empirically*).

# %% tags=["remove_input"]
footer(5, f"Curve: {origin}.")
