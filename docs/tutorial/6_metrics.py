# %% [markdown]
# # 6. Error metrics
#
# A model of heart sounds that says *normal* to everything is right most of the time, and useless. This page takes the
# predictions of two studies and shows which metrics notice that, how sure one can be of them with so few people, when a
# probability can be believed, and how a careless split or the recording device gets into a score.

# %%
import numpy as np
import pandas as pd
import plots
from common import SMALL, footer, say, show, table
from scores import RESAMPLES, compared, predictions_of
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from heartdata.scoring.bootstrap import subject_draws, with_interval
from heartdata.scoring.calibration import (
    apply_temperature,
    brier,
    decide,
    expected_calibration_error,
    fit_operating_point,
    fit_temperature,
    log_probabilities,
)
from heartdata.scoring.confusion import class_numbers
from heartdata.scoring.metrics import compute_metrics, per_class
from heartdata.scoring.model_names import MAJORITY_CLASS, METADATA_ONLY, NETWORK, SIMPLE_FEATURES
from heartdata.scoring.text import metric_label, with_bounds
from heartdata.studies.protocols import GROUPED, LEAKY
from heartdata.studies.scores import AT_POINT

# %% [markdown]
# The first sections use the study `pascal-b`: PASCAL's set B, three classes, five folds by subject, each recording
# predicted by a network that was not trained on anybody heard in it. Beside the network stand what any model must beat:
# trees on *simple features* of the same spectrograms, *metadata only* (duration, sampling rate, channels, source, collection
# and site: no sound at all), and the *majority class*.

# %%
study = predictions_of("pascal-b")
classes = study.classes
models = {name: study.of(name) for name in (NETWORK, SIMPLE_FEATURES, METADATA_ONLY, MAJORITY_CLASS)}
network = models[NETWORK]
counts = network["label"].value_counts()
say(
    f"Scored here: {study.origin}. {len(network)} recordings of {network['group'].nunique()} subjects: "
    + ", ".join(f"{n} {label} ({n / len(network):.0%})" for label, n in counts.items())
    + (". Of the study's seeds, the first." if study.rows["seed"].nunique() > 1 else ".")
)

# %% [markdown]
# ## Accuracy misleads
#
# Accuracy is the share of recordings that are predicted correctly, so it is mostly the share of the common class.
# **Balanced accuracy** is the mean over classes of the share predicted correctly; **macro-F1** is the mean over classes of
# F1, which also counts false alarms. For both, a rare class weighs as much as a common one.

# %%
SHOWN = ("accuracy", "balanced_accuracy", "macro_f1")
by_metric = {metric: compared(models, classes, metric) for metric in SHOWN}
table([{"model": name} | {metric_label(m): rows.loc[name, "text"] for m, rows in by_metric.items()} for name in models])
most = counts.index[0]
say(
    f"*{most}* for everything has an accuracy of {by_metric['accuracy'].loc[MAJORITY_CLASS, 'value']:.3f} and finds not one "
    f"{' or '.join(label for label in classes if label != most)}; its balanced accuracy is 1 / {len(classes)}. "
    "In brackets: 95 % intervals, by bootstrap over subjects."
)

# %% tags=["remove_input"]
show(
    plots.by_metric({metric_label(metric): rows for metric, rows in by_metric.items()}),
    "Accuracy, balanced accuracy and macro-F1 of each model with intervals",
)

# %% [markdown]
# ## Confusion matrix, precision and recall
#
# A row is what a recording is, a column what it is called. **Recall** reads along a row: of all murmurs, how many were found?
# **Precision** reads down a column: of all that were called murmurs, how many are? F1 is the harmonic mean of the two, which
# is low if either is.

# %%
at_point = study.of(AT_POINT)  # decided by class weights, see "Operating point" below
confusion = plots.matrix(at_point, classes)  # shape (true classes, predicted classes)
recall = np.diag(confusion) / confusion.sum(axis=1)
precision = np.diag(confusion) / np.maximum(confusion.sum(axis=0), 1)
f1 = 2 * np.diag(confusion) / (confusion.sum(axis=0) + confusion.sum(axis=1))
assert np.allclose(
    per_class(at_point, classes)[["precision", "recall", "f1"]], np.stack([precision, recall, f1], axis=1)
)
assert np.isclose(f1.mean(), f1_score(at_point["label"], at_point["prediction"], average="macro"))
table(
    [
        {"class": label, "recordings": n, "precision": f"{p:.3f}", "recall": f"{r:.3f}", "F1": f"{f:.3f}"}
        for label, n, p, r, f in zip(classes, confusion.sum(axis=1), precision, recall, f1, strict=True)
    ]
)
say(
    f"Macro-F1 of the network at its operating point: ({' + '.join(f'{f:.3f}' for f in f1)}) / {len(f1)} = **{f1.mean():.3f}**."
)

# %% tags=["remove_input"]
compared_confusions = {
    MAJORITY_CLASS: models[MAJORITY_CLASS],
    f"{NETWORK}, most probable class": network,
    AT_POINT: at_point,
}
show(
    plots.confusions(compared_confusions, classes),
    "Confusion matrices of the majority class, the network, and the network at its operating point",
)

# %% [markdown]
# ## Scores of the ranking: AUROC and AUPRC
#
# Both look at the probabilities before anybody decides. **AUROC** is the chance that a random murmur gets a higher
# probability of *murmur* than a random other recording; .5 is guessing. **AUPRC** (average precision) is the mean
# precision over all recalls, and guessing gets the share of murmurs. Networks of different folds share no scale, so each
# fold is scored by itself and the mean taken.

# %%
RARE = "murmur"
rare = classes.index(RARE)


def by_fold(rows: pd.DataFrame, score) -> float:
    """The mean over folds of a score of (is it a murmur, its probability)."""
    each = [score(part["label"] == RARE, study.probabilities(part)[:, rare]) for _, part in rows.groupby("fold")]
    return float(np.mean(each))


prevalence = float((network["label"] == RARE).mean())
table(
    [
        {
            "model": name,
            "AUROC": f"{by_fold(rows, roc_auc_score):.3f}",
            "AUPRC": f"{by_fold(rows, average_precision_score):.3f}",
        }
        for name, rows in models.items()
    ]
    + [{"model": "guessing", "AUROC": "0.500", "AUPRC": f"{prevalence:.3f}"}]
)

# %% [markdown]
# AUROC does not know how rare the murmurs are; AUPRC and precision do. Here only every fourth murmur is kept, as in a
# clinic where they are rarer (the mean of many draws):

# %%
draw = np.random.default_rng(0)
murmurs = network.index[network["label"] == RARE]
thinned = []
for _ in range(5 if SMALL else 50):
    dropped = draw.choice(murmurs, len(murmurs) - len(murmurs) // 4, replace=False)
    left = network.drop(index=dropped)
    left = left[left.groupby("fold")["label"].transform(lambda labels: (labels == RARE).any())]
    thinned.append([by_fold(left, roc_auc_score), by_fold(left, average_precision_score)])
roc_thinned, pr_thinned = np.mean(thinned, axis=0)
say(
    f"Of the same network, with a quarter of the murmurs: AUROC {by_fold(network, roc_auc_score):.3f} → {roc_thinned:.3f}, "
    f"AUPRC {by_fold(network, average_precision_score):.3f} → {pr_thinned:.3f}. So an AUPRC is only compared with one of "
    "the same recordings, and a high AUROC may still mean many false alarms for each murmur found."
)

# %% tags=["remove_input"]
show(
    plots.ranking({name: models[name] for name in (METADATA_ONLY, SIMPLE_FEATURES, NETWORK)}, RARE),
    "ROC and precision-recall curves of murmur against the rest",
)

# %% [markdown]
# ## Calibration: can a probability be believed?
#
# Of all predictions made with a confidence of 70 %, 70 % should be right. The **reliability curve** compares the two,
# bin by bin; **ECE** is the mean distance from the diagonal, weighted by the predictions in each bin, and depends on the
# number of bins. The **Brier score** is the mean squared distance of the probabilities from the truth (0 to 2 here): it
# also rewards being right. The study has scaled the network's probabilities by a **temperature**, fitted to each fold's
# validation part; those of the trees are as they come.

# %%


def calibration_of(rows: pd.DataFrame, probabilities: np.ndarray) -> dict[str, str]:
    confidence = probabilities.max(axis=1).clip(0, 1)
    correct = probabilities.argmax(axis=1) == class_numbers(rows["label"], classes)
    errors = {f"ECE, {bins} bins": expected_calibration_error(confidence, correct, bins) for bins in (5, 10, 20)}
    errors |= {"Brier": brier(probabilities, rows["label"], classes), "accuracy": correct.mean()}
    return {name: f"{value:.3f}" for name, value in errors.items()}


table([{"model": name} | calibration_of(rows, study.probabilities(rows)) for name, rows in models.items()])

# %% [markdown]
# The majority class is calibrated almost perfectly, since it says how common the class is, and tells no two recordings
# apart: calibration is not everything either. What a temperature does to the trees, when half of the subjects play the
# validation part and the other half is scored:

# %%
trees = models[SIMPLE_FEATURES]
subjects = np.random.default_rng(0).permutation(np.array(sorted(trees["group"].unique()), object))
is_valid = trees["group"].isin(subjects[: len(subjects) // 2])
fitting, scored = trees[is_valid], trees[~is_valid]
temperature = fit_temperature(log_probabilities(study.probabilities(fitting)), class_numbers(fitting["label"], classes))
before = study.probabilities(scored)
after = apply_temperature(before, temperature)
assert (before.argmax(axis=1) == after.argmax(axis=1)).all()  # a temperature changes no prediction
if "simulated" in study.origin:
    assert 0.3 < temperature < 0.8, temperature  # their logits were halved
say(f"Fitted temperature: {temperature:.2f}, so the trees were {'under' if temperature < 1 else 'over'}confident.")
table(
    [
        {"trees on the other half": "as they come"} | calibration_of(scored, before),
        {"trees on the other half": f"with temperature {temperature:.2f}"} | calibration_of(scored, after),
    ]
)

# %% tags=["remove_input"]
panels = {
    f"{NETWORK}, with temperature": (network, study.probabilities(network)),
    f"{SIMPLE_FEATURES}, as they come": (scored, before),
    f"{SIMPLE_FEATURES}, with temperature": (scored, after),
}
show(
    plots.reliability(panels, classes),
    "Reliability curves of the network, and of the trees before and after a temperature",
)

# %% [markdown]
# ## Operating point: chosen on validation only
#
# The most probable class is seldom the best decision where classes are unequal. heartbeat multiplies the probabilities by
# class weights that maximise macro-F1, and chooses them on the validation part. Choosing them on the recordings that are
# then scored looks better and is worth nothing: below, weights are chosen on a random half of the subjects and scored on
# that half (wrong) and on the other (right), many times.

# %%


def macro_f1_of(rows: pd.DataFrame, weights: np.ndarray | None) -> float:
    predicted = decide(study.probabilities(rows), classes, weights)
    once = np.ones((1, len(rows)))
    return compute_metrics(
        rows["label"].to_numpy(object), predicted, study.probabilities(rows), classes, once, ["macro_f1"]
    ).iloc[0, 0]


results = []
for seed in range(3 if SMALL else 40):
    shuffled = np.random.default_rng(seed).permutation(np.array(sorted(network["group"].unique()), object))
    chosen = network["group"].isin(shuffled[: len(shuffled) // 2])
    here, there = network[chosen], network[~chosen]
    weights = fit_operating_point(study.probabilities(here), here["label"], classes, "macro_f1", here["group"])
    results.append(
        [macro_f1_of(here, weights), macro_f1_of(there, weights), macro_f1_of(here, None), macro_f1_of(there, None)]
    )
same, other, plain_same, plain_other = np.mean(results, axis=0)
table(
    [
        {"macro-F1, mean": "most probable class", "on the half they were chosen on": f"{plain_same:.3f}", "on the other half": f"{plain_other:.3f}"},
        {"macro-F1, mean": "chosen class weights", "on the half they were chosen on": f"{same:.3f}", "on the other half": f"{other:.3f}"},
        {"macro-F1, mean": "apparent gain", "on the half they were chosen on": f"{same - plain_same:+.3f}", "on the other half": f"{other - plain_other:+.3f}"},
    ]
)  # fmt: skip
gain = compared({AT_POINT: at_point, NETWORK: network}, classes)["less"].iloc[1]
say(f"In the study, where each fold chose its weights on its own validation part, they gained {gain}.")

# %% [markdown]
# ## Intervals: over subjects, not over recordings
#
# Recordings of one person are alike, so ten recordings of ten people say more than ten of one. A bootstrap that draws
# recordings forgets that, and its interval is too narrow; one that draws whole subjects does not. Both on the same
# predictions:

# %%
truth, predicted = (network[column].to_numpy(object) for column in ("label", "prediction"))
probabilities = study.probabilities(network)
intervals = []
for unit, groups in {"recordings": np.arange(len(network)), "subjects": network["group"]}.items():
    draws = subject_draws(groups, truth, RESAMPLES, seed=0)
    values = compute_metrics(truth, predicted, probabilities, classes, draws.weights)
    for metric in SHOWN:
        intervals.append((metric, unit, *with_interval(values[metric], draws.degrees_of_freedom)))
intervals = pd.DataFrame(intervals, columns=["metric", "unit", "value", "low", "high"]).set_index(["metric", "unit"])
width = intervals["high"] - intervals["low"]
table(
    [
        {"metric": metric_label(metric)}
        | {f"over {unit}": with_bounds(*intervals.loc[(metric, unit)]) for unit in ("recordings", "subjects")}
        | {"width over subjects / recordings": f"{width[metric, 'subjects'] / width[metric, 'recordings']:.2f}"}
        for metric in SHOWN
    ]
)

# %% [markdown]
# Which of the two is right cannot be seen in one set of recordings, as nobody knows the true score. So here is a model
# whose true accuracy is known: it is right 70 % of the time, it errs on some people far more than on others, and it is
# tested on 40 of them, with 1 to 8 recordings each, again and again. A 95 % interval should contain .7 in 95 of 100 tests.

# %%
TRUE, TESTS = 0.7, 20 if SMALL else 1000
draw = np.random.default_rng(1)
contained = {"recordings": 0, "subjects": 0}
for _ in range(TESTS):
    person = np.repeat(np.arange(40), draw.integers(1, 9, 40))
    right = draw.random(len(person)) < draw.beta(2 * TRUE, 2 * (1 - TRUE), 40)[person]
    for unit, groups in {"recordings": np.arange(len(person)), "subjects": person}.items():
        draws = subject_draws(groups, np.zeros(len(person)), 200, seed=0)
        accuracy = draws.weights @ right / draws.weights.sum(axis=1)
        _, low, high = with_interval(accuracy, draws.degrees_of_freedom)
        contained[unit] += low <= TRUE <= high
assert contained["subjects"] > contained["recordings"]
say(
    f"In {TESTS} simulated tests the interval over subjects contained the truth in **{contained['subjects'] / TESTS:.1%}**, the "
    f"one over recordings in **{contained['recordings'] / TESTS:.1%}**."
)

# %% [markdown]
# ## The leak, and the device
#
# The study `article` does what tutorials do: both PASCAL sets in five classes, one image a recording, a network from
# random weights. It does so twice: with a random split, and by subject. Set A was recorded by phones and names no
# subjects; set B by a digital stethoscope.

# %%
article = predictions_of("article")
leaky, grouped = (article.of(NETWORK, arm) for arm in (LEAKY, GROUPED))
assert (leaky["recording_id"] == grouped["recording_id"]).all()
named = grouped["collection"] == "set_b"
seen = leaky["fold"].groupby(grouped["subject"]).transform("nunique") > 1
say(
    f"Scored here: {article.origin}. In the random split, of {named.sum()} recordings in set B, whose subjects are known, "
    f"**{seen[named].mean():.0%}** were predicted by a network that had been trained on another recording of the same person."
)

# %%
rows = []
for model in (NETWORK, SIMPLE_FEATURES, METADATA_ONLY):
    arms = {arm: article.of(model, arm).assign(group=grouped["group"]) for arm in (LEAKY, GROUPED)}
    of_arms = compared(arms, article.classes)
    by_arm = {arm: of_arms.loc[arm, "text"] for arm in arms}
    rows.append({"macro-F1": model} | by_arm | {"the random split's gain": of_arms.loc[GROUPED, "less"]})
table(rows)
say(
    "Both splits are scored on the same recordings, with intervals over the same draws of subjects (the study's page has other "
    "draws, so bounds differ a little). How much a split leaks "
    "depends on how well a model remembers people, and on how alike the recordings on both sides are: "
    "[page 4](4_transfer_learning.md#the-leak-made-visible) cuts recordings into pieces before the split, as many tutorials do."
)

# %% [markdown]
# The device is another hole. Which recordings have which label?

# %%
known = pd.crosstab(grouped["collection"], grouped["label"])
table([{"": collection} | {label: int(n) for label, n in row.items()} for collection, row in known.iterrows()])

# %% [markdown]
# Where a class occurs in one set only, whoever recognises the device knows half of the answer. A fair question is asked
# inside one set: does the model still tell the class from the rest where the device is the same? Below, the AUROC of each
# class against the rest, over both sets and inside the sets that have it (split by subject, mean over folds).


# %%
def auroc(rows: pd.DataFrame, label: str) -> float:
    """The mean over folds; nan where no fold has both the class and another."""
    number, areas = article.classes.index(label), []
    for _, part in rows.groupby("fold"):
        yes = part["label"] == label
        if 0 < yes.sum() < len(yes):
            areas.append(roc_auc_score(yes, article.probabilities(part)[:, number]))
    return float(np.mean(areas)) if areas else float("nan")


rows = []
for label in article.classes:
    sets = known.index[known[label] > 0]
    row = {"class": label, "in": ", ".join(sets)}
    for model in (NETWORK, METADATA_ONLY):
        predicted = article.of(model, GROUPED)
        inside = np.mean([auroc(predicted[predicted["collection"] == name], label) for name in sets])
        row |= {f"{model}, both sets": auroc(predicted, label), f"{model}, inside": inside}
    rows.append(row)
device = pd.DataFrame(rows).set_index("class")
table([{name: f"{value:.3f}" if isinstance(value, float) else value for name, value in row.items()} for row in rows])
one_set = [label for label in article.classes if (known[label] > 0).sum() == 1]
means = device.loc[one_set].drop(columns="in").mean()
say(
    f"Over the {len(one_set)} classes that occur in one set only, metadata without any sound reach a mean AUROC of "
    f"**{means[f'{METADATA_ONLY}, both sets']:.3f}**, and {means[f'{METADATA_ONLY}, inside']:.3f} inside their set; the network "
    f"**{means[f'{NETWORK}, both sets']:.3f}**, and {means[f'{NETWORK}, inside']:.3f} inside. What is lost inside, if anything, is what the device gave away. "
    "That is why a run on PASCAL trains on one set unless told otherwise, and why a metadata-only baseline is logged with every model."
)

# %% tags=["remove_input"]
show(
    plots.device_share(device, (NETWORK, METADATA_ONLY)),
    "AUROC of each class over both sets and inside one set, of the network and of metadata alone",
)

# %% tags=["remove_input"]
commands = "`heartbeat study pascal-b --data FOLDER` and `heartbeat study article --data FOLDER`"
if "simulated" in study.origin + article.origin:
    made = f"Predictions of {commands} that were not in the folder of studies (HEARTBEAT_STUDIES) are simulated."
else:
    made = f"The predictions are those of {commands}."
footer(6, made)
