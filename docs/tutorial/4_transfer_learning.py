# %% [markdown]
# # 4. Sound to picture to network
#
# A heart sound becomes a spectrogram, the spectrogram a picture, and a network that has learned from other pictures is
# fine-tuned on it: **transfer learning**. First in 30 lines, as tutorials do it; then by the functions that `heartbeat run`
# calls; then both on the same recordings, to see what the differences are worth. After that: which layers to train, at
# which learning rate, and from which weights.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from common import SMALL, backbone, data_folder, footer, say, show, table
from fastai.callback.schedule import minimum, steep, valley
from fastai.torch_core import set_seed
from scores import difference_in_words
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import KFold, StratifiedGroupKFold
from torchvision.models import ResNet34_Weights

from heartdata.audio.measurements import measure_recordings, sound_reader
from heartdata.checks.near_duplicates import near_duplicates
from heartdata.checks.validation import validate
from heartdata.checks.waveforms import confirm
from heartdata.config_file import build_config
from heartdata.dataset.inventory import take_inventory
from heartdata.dataset.manifest import build_manifest
from heartdata.dataset.spectrogram_shards import render_shard
from heartdata.dataset.splits import SplitConfig, assign_splits
from heartdata.dataset.windows import Shards, window, window_starts
from heartdata.scoring.baselines import classical_baseline, majority_baseline, metadata_baseline
from heartdata.scoring.calibration import apply_calibration, decide, expected_calibration_error, fit_calibration
from heartdata.scoring.features import spectrogram_features
from heartdata.scoring.metrics import metrics_with_intervals
from heartdata.scoring.text import with_bounds
from heartdata.serving.model_config import ModelConfig
from heartdata.serving.predictor import Predictor, predict_probabilities
from heartdata.storage.schemas import FACTS
from heartdata.storage.shards import into_shards
from heartdata.storage.store import Store
from heartdata.training.network import build_net, imagenet_weights, load_pretrained
from heartdata.training.recipe import NetworkConfig
from heartdata.training.train import build_dataloaders, build_learner, train

folder = tempfile.TemporaryDirectory()
work = Path(folder.name)
SIZE, EPOCHS, FOLDS, RESAMPLES = (32, 1, 2, 50) if SMALL else (128, 4, 2, 1000)
IMAGENET_FILE = Path(torch.hub.get_dir(), "checkpoints", Path(ResNet34_Weights.IMAGENET1K_V1.url).name)
HAS_IMAGENET = IMAGENET_FILE.is_file() and not SMALL

# %% [markdown]
# The recordings: PASCAL's set B (a digital stethoscope; normal, murmur, extrastole), or synthetic ones where it is not at hand.

# %%
pascal = data_folder("pascal")
if pascal and not SMALL:
    config = build_config("pascal", str(pascal), changes={"source.sets": ["set_b"]})
else:
    few = {"subjects_per_class": 4 if SMALL else 25, "sites": 2, "duration_s": (2, 3) if SMALL else (4, 6), "plant_faults": False}
    config = build_config("demo", changes={f"source.{name}": value for name, value in few.items()})
listed, _ = take_inventory(config.source, work)
recordings = listed.to_pandas()
labelled = recordings[recordings["label"].notna()]
say(
    f"{len(labelled)} labelled {'recordings of PASCAL set B' if pascal and not SMALL else '**synthetic** recordings, so the scores below prove only that the code works'}, "
    f"{labelled['subject'].nunique()} subjects: {', '.join(f'{n} {label}' for label, n in labelled['label'].value_counts().items())}."
)  # fmt: skip

# %% [markdown]
# ## As tutorials do it
#
# librosa reads the file and makes a mel spectrogram, matplotlib paints it, one PNG a recording in a folder for each class;
# fastai reads the folders, holds out a random fifth, and fine-tunes a resnet34.

# %%
import librosa  # noqa: E402
from fastai.vision.all import ImageDataLoaders, Resize, accuracy, resnet34, vision_learner  # noqa: E402

for recording in labelled.itertuples():
    sound, rate_hz = librosa.load(recording.uri)
    power_db = librosa.power_to_db(librosa.feature.melspectrogram(y=sound, sr=rate_hz), ref=np.max)
    plt.figure(figsize=(2.24, 2.24))
    plt.axis("off")
    librosa.display.specshow(power_db)
    png = work / "pictures" / recording.label / f"{Path(recording.uri).stem}.png"
    png.parent.mkdir(parents=True, exist_ok=True)
    plt.savefig(png, bbox_inches="tight", pad_inches=0)
    plt.close()

set_seed(42, reproducible=True)
pictures = ImageDataLoaders.from_folder(
    work / "pictures", valid_pct=0.2, seed=42, item_tfms=Resize(SIZE), bs=8 if SMALL else 32, num_workers=0
)
tutorial = vision_learner(pictures, resnet34, metrics=accuracy, pretrained=HAS_IMAGENET)
with tutorial.no_bar(), tutorial.no_logging():
    tutorial.fine_tune(EPOCHS)
    _, tutorial_accuracy = tutorial.validate()

# %%
commonest = labelled["label"].value_counts(normalize=True)
say(
    f"Accuracy on the random fifth: **{tutorial_accuracy:.3f}**. A tutorial would end here. But *{commonest.index[0]}* for everything "
    f"would have {commonest.iloc[0]:.3f} ([page 6](6_metrics.md)), and the fifth is "
    f"{len(pictures.valid_ds)} recordings, most of them of people who are in the other four fifths too."
    + ("" if HAS_IMAGENET else " The network began with random weights, as ImageNet's are not on this machine (see [below](#which-weights-to-start-from)).")
)  # fmt: skip

# %% [markdown]
# ## The same by the pipeline
#
# `heartbeat run --source pascal --data FOLDER` is one command. These are the functions behind it, in its order, without
# the parts that make it run every night (cached and retried tasks, the registry):

# %%
store = Store(work / "store")
files = recordings.dropna(subset="sha256")
shards = into_shards(zip(files["sha256"], files["uri"], strict=True))
facts = pa.concat_tables(store.read_table(measure_recordings(s, config.measure, store), FACTS) for s in shards)
similarity = config.validation.near_duplicate_similarity
pairs = near_duplicates(facts.select(["sha256", "fingerprint"]).to_pandas(), similarity).pairs
pairs = confirm(pairs, sound_reader(listed, config.measure))
checked = validate(listed, facts, config.validation, work / "data-docs", config.split.collections, pairs=pairs)
usable = files[files["sha256"].isin(checked.accepted.column("sha256").to_pylist())]
shards = into_shards(zip(usable["sha256"], usable["uri"], strict=True))
index = pa.concat_tables(render_shard(shard, config.spectrogram, store).index for shard in shards)


def manifest(fold: int) -> pd.DataFrame:
    """One row a recording: label, subject, part (train, valid, test), and where its spectrogram is."""
    split = SplitConfig(
        strategy="k_fold", folds=FOLDS, fold=fold, valid_fraction=0.2, collections=config.split.collections
    )
    return build_manifest(checked.accepted, assign_splits(checked.accepted, split, listed), index).to_pandas()


RECIPE = NetworkConfig(
    epochs=1 if SMALL else 6, batch=4 if SMALL else 16, width=32 if SMALL else 128, patience=100
)


def fine_tuned(rows: pd.DataFrame, initial: dict[str, torch.Tensor] | None, recipe: NetworkConfig) -> Predictor:
    """A network trained on part train, its epoch chosen on part valid."""
    trained = train(rows, initial, recipe, store)
    model = ModelConfig(
        classes=trained.classes, width=recipe.width, spectrogram=config.spectrogram, dataset_version="", init=recipe.init
    )
    return Predictor(trained.net.to(memory_format=torch.channels_last), model)


# %% [markdown]
# What the two networks see of one recording:

# %%
manifests = [manifest(fold) for fold in range(FOLDS)]
everything = manifests[0].drop(columns=["part", "fold"])
classes = sorted(everything["label"].unique())
longest = everything.loc[everything["duration_s"].idxmax()]
spectrograms = Shards(store)
spectrograms.open(everything)

# %% tags=["remove_input"]
uri_of = recordings.set_index("recording_id")["uri"]
shortest = everything.loc[everything["duration_s"].idxmin()]
figure, panels = plt.subplots(2, 2, figsize=(11, 5.2), width_ratios=(1, 3), layout="constrained")
for (picture, floats), row in zip(panels, (shortest, longest), strict=True):
    png = work / "pictures" / row["label"] / f"{Path(uri_of[row['recording_id']]).stem}.png"
    picture.imshow(plt.imread(png))
    picture.set_title(f"tutorial: {row['duration_s']:.1f} s as one PNG", fontsize=10)
    picture.axis("off")
    spectrogram = spectrograms.spectrogram(row["shard"], row["start"], row["frames"])
    floats.imshow(spectrogram.T.astype(np.float32), origin="lower", aspect="auto", cmap="magma", vmin=-2, vmax=3)
    for start in window_starts(len(spectrogram), RECIPE.width)[1:]:
        floats.axvline(start, color="white", linewidth=0.7, linestyle="--")
    floats.set(ylabel="mel band", title=f"pipeline: floats, {config.spectrogram.hop_s * 1000:.0f} ms a column, windows of {RECIPE.width}")
    floats.title.set_fontsize(10)
panels[1, 1].set_xlabel("column")
show(figure, "The shortest and the longest recording, as the tutorial's picture and as the pipeline's spectrogram")

# %% tags=["remove_input"]
facts_of = facts.to_pandas()
mels = librosa.mel_frequencies(n_mels=128, fmax=22_050 / 2)
rate_hz = int(facts_of["rate_hz"].mode()[0])
empty = float((mels > rate_hz / 2).mean())
refused = checked.quarantine.to_pandas()
refused = refused[refused["label"].notna()]
windows_per_recording = [len(window_starts(int(frames), RECIPE.width)) for frames in everything["frames"]]
per_subject = everything.groupby("group").size()
reasons = ", ".join(f"{n} {check.replace('_', ' ')}" for check, n in refused["check"].value_counts().items())
shares = everything["label"].value_counts(normalize=True)
table(
    [
        {"": "input", "tutorial": "a PNG of colours, 8 bits, three channels", "pipeline": "log-mel in dB as floats, one channel", "why": "a colour map is not monotone in each channel; loudness is one number"},
        {"": "frequencies", "tutorial": f"librosa's defaults, to 11 kHz: {empty:.0%} of the picture is above what a file of {rate_hz} Hz can hold", "pipeline": f"{config.spectrogram.low_hz:.0f} to {config.spectrogram.high_hz:.0f} Hz, {config.spectrogram.mel_bands} bands", "why": "heart sounds and murmurs are below 1 kHz"},
        {"": "level", "tutorial": "relative to the recording's loudest point", "pipeline": "each band to mean 0, deviation 1", "why": "a constant colouring by the device is removed"},
        {"": "length", "tutorial": f"{everything['duration_s'].min():.1f} s and {everything['duration_s'].max():.1f} s squeezed to one width", "pipeline": f"windows of {RECIPE.width * config.spectrogram.hop_s:.1f} s, a random one an epoch", "why": "else the time scale, and with it the heart rate, differs from picture to picture"},
        {"": "split", "tutorial": "random over files", "pipeline": "by subject; validation apart from test", "why": f"a subject has up to {per_subject.max()} recordings here"},
        {"": "copies and faults", "tutorial": "all files used", "pipeline": f"{len(refused)} of {len(labelled)} labelled ones refused" + (f" ({reasons})" if reasons else ""), "why": "a copy in both parts is a leak; a wrong file teaches nothing"},
        {"": "class balance", "tutorial": f"as they come: {shares.iloc[0]:.0%} {shares.index[0]}, {shares.iloc[-1]:.0%} {shares.index[-1]}", "pipeline": "every class drawn equally often", "why": "else the rare class is hardly trained on"},
        {"": "what is scored", "tutorial": "a picture", "pipeline": f"a recording: the mean over its windows ({np.mean(windows_per_recording):.1f} on average)", "why": "a murmur may be clear in one window only"},
        {"": "epoch", "tutorial": "the last", "pipeline": "chosen on validation subjects, by macro-F1", "why": "the test part chooses nothing"},
        {"": "decision", "tutorial": "the most probable class", "pipeline": "temperature, class weights and *unsure*, fitted to validation subjects", "why": "a confidence should be the chance of being right"},
        {"": "score", "tutorial": "accuracy", "pipeline": "macro-F1, AUROC, ... with intervals over subjects, beside baselines", "why": "accuracy is mostly the share of the common class"},
        {"": "afterwards", "tutorial": "a pickle (learn.export)", "pipeline": "safetensors, with data set version, settings, code, and what the weights were trained on", "why": "any score can be traced to the audio"},
        {"": "the next night", "tutorial": "everything again", "pipeline": "only what is new: files, spectrograms and trainings are cached by content", "why": "hours become seconds"},
    ]
)  # fmt: skip

# %% [markdown]
# ## Both on the same recordings
#
# The accepted recordings are split into two halves by subject; each network is trained on one half and scored on the other, so
# every recording is scored once by a network that has not met its subject. The tutorial's network is also scored as tutorials
# do it, on two random halves. All start from the same kind of weights, and all are scored by their most probable class.

# %%
pngs = [Path("pictures", row.label, f"{Path(uri_of[row.recording_id]).stem}.png") for row in everything.itertuples()]
everything = everything.assign(png=[str(png) for png in pngs])


def tutorial_probabilities(fold_of: np.ndarray) -> np.ndarray:
    """The tutorial's network, trained and scored in turn: probabilities of each recording, shape (recordings, classes)."""
    probabilities = np.zeros((len(everything), len(classes)))
    for fold in np.unique(fold_of):
        set_seed(42, reproducible=True)
        rows = everything.assign(held_out=fold_of == fold)
        data = ImageDataLoaders.from_df(
            rows, work, fn_col="png", label_col="label", valid_col="held_out", item_tfms=Resize(SIZE),
            bs=8 if SMALL else 32, num_workers=0,
        )  # fmt: skip
        learner = vision_learner(data, resnet34, pretrained=HAS_IMAGENET)
        with learner.no_bar(), learner.no_logging():
            learner.fine_tune(EPOCHS)
            probabilities[fold_of == fold] = learner.get_preds()[0].numpy()
    return probabilities


def pipeline_probabilities(initial: dict[str, torch.Tensor] | None, recipe: NetworkConfig) -> tuple[np.ndarray, np.ndarray]:
    """As it comes, and calibrated on validation subjects with class weights applied: shapes (recordings, classes)."""
    plain, decided = (np.zeros((len(everything), len(classes))) for _ in range(2))
    for rows in manifests:
        predictor = fine_tuned(rows, initial, recipe)
        valid, test = (rows[rows["part"] == part] for part in ("valid", "test"))
        calibration = fit_calibration(predict_probabilities(predictor, valid, store), valid, classes, config.decision)
        at = (rows["part"] == "test").to_numpy()  # all manifests are sorted by recording
        plain[at] = apply_calibration(predict_probabilities(predictor, test, store), calibration)
        decided[at] = plain[at] * np.array(calibration.class_weights)
    return plain, decided


subject_folds = np.select([m["part"] == "test" for m in manifests], range(FOLDS))
random_folds = np.zeros(len(everything), int)
for number, (_, test) in enumerate(KFold(FOLDS, shuffle=True, random_state=0).split(everything)):
    random_folds[test] = number
seen = pd.Series(random_folds).groupby(everything["group"]).transform("nunique").to_numpy() > 1


def scored(probabilities: np.ndarray, weighted: np.ndarray | None = None) -> pd.DataFrame:
    """One row a recording, decided by the highest probability, or by ``weighted`` ones."""
    names = {f"p_{name}": probabilities[:, i] for i, name in enumerate(classes)}
    decisions = decide(probabilities if weighted is None else weighted, classes, None)
    return everything[["label", "group"]].assign(prediction=decisions, **names)


# %%
imagenet = imagenet_weights() if HAS_IMAGENET else None
start, start_name = (imagenet, "ImageNet") if HAS_IMAGENET else (None, "random weights")
from_start = RECIPE.model_copy(update={"init": "imagenet" if HAS_IMAGENET else "random"})
plain, decided = pipeline_probabilities(start, from_start)
baselines = {"majority class": majority_baseline, "metadata only": metadata_baseline}
rows_of = {name: np.zeros((len(everything), len(classes))) for name in (*baselines, "simple features")}
for rows in manifests:
    at = (rows["part"] == "test").to_numpy()
    for name, baseline in baselines.items():
        rows_of[name][at] = baseline(rows, classes)
    rows_of["simple features"][at] = classical_baseline(rows, classes, config.spectrogram.hop_s, store)
results = {
    "tutorial, random split": scored(tutorial_probabilities(random_folds)),
    "tutorial, by subject": scored(tutorial_probabilities(subject_folds)),
    "pipeline, by subject": scored(plain),
    "pipeline, at its operating point": scored(plain, decided),
} | {f"{name}, by subject": scored(probabilities) for name, probabilities in rows_of.items()}


# %%
def compared(predictions: dict[str, pd.DataFrame], metric: str = "macro_f1") -> pd.DataFrame:
    """Value, interval, and the first model's value less each one's; a bootstrap over subjects, the same for all."""
    found = pd.DataFrame(metrics_with_intervals(predictions, classes, RESAMPLES, seed=0))
    return found[found["metric"] == metric].set_index("model")


BOUNDS, LESS = ["value", "low", "high"], ["difference", "difference_low", "difference_high"]


def ece(rows: pd.DataFrame) -> float:
    probabilities = rows[[f"p_{name}" for name in classes]].to_numpy(float)
    correct = np.array(classes)[probabilities.argmax(axis=1)] == rows["label"].to_numpy()
    return expected_calibration_error(probabilities.max(axis=1).clip(0, 1), correct)


macro, plain_accuracy = compared(results), compared(results, "accuracy")
table(
    [
        {
            f"from {start_name}": name,
            "accuracy": with_bounds(*plain_accuracy.loc[name, BOUNDS]),
            "macro-F1": with_bounds(*macro.loc[name, BOUNDS]),
            "ECE": f"{ece(rows):.3f}",
        }
        for name, rows in results.items()
    ]
)
gain = -compared({name: results[name] for name in ("tutorial, by subject", "pipeline, by subject")}).loc["pipeline, by subject", LESS]
say(
    f"By subject, the pipeline's network less the tutorial's, in macro-F1: "
    f"{difference_in_words(gain.iloc[0], gain.iloc[2], gain.iloc[1])}. Both learned from half of the subjects and for a few epochs; "
    "the [studies](../studies.md) train longer, on more."
)

# %% [markdown]
# ## The leak made visible
#
# The tutorial's network, on the same recordings, by the random split and by subject:

# %%
leak = compared({name: results[name] for name in ("tutorial, random split", "tutorial, by subject")})
say(
    f"In the random split {seen.mean():.0%} of the recordings are of a subject that the network was trained on. Macro-F1, random split less "
    f"by subject: {difference_in_words(*leak.loc['tutorial, by subject', LESS])}."
)

# %% [markdown]
# A network that has seen few pictures for few epochs remembers few people. Many tutorials also cut recordings into pieces, to
# have more pictures, and split the *pieces* at random. Then the same heartbeat, a second later, is in training and test. Here
# trees on simple features of pieces of two seconds, by three splits:

# %%
pieces, piece_of = [], []
width = 32 if SMALL else 64
for number, row in enumerate(everything.itertuples()):
    spectrogram = spectrograms.spectrogram(row.shard, row.start, row.frames)
    for at in window_starts(len(spectrogram), width)[:8]:
        pieces.append(spectrogram_features(window(spectrogram, at, width), config.spectrogram.hop_s))
        piece_of.append(number)
pieces, piece_of = np.stack(pieces), np.array(piece_of)
of_pieces = everything[["label", "group"]].iloc[piece_of].reset_index(drop=True)
by_pieces = {}
for name, unit in {
    "pieces at random": np.arange(len(pieces)), "whole recordings at random": piece_of, "subjects": of_pieces["group"]
}.items():  # fmt: skip
    probabilities = np.zeros((len(pieces), len(classes)))
    for training, test in StratifiedGroupKFold(3, shuffle=True, random_state=0).split(pieces, of_pieces["label"], unit):
        trees = ExtraTreesClassifier(20 if SMALL else 200, class_weight="balanced", random_state=0)
        trees.fit(pieces[training], of_pieces["label"].to_numpy(str)[training])
        probabilities[test] = trees.predict_proba(pieces[test])
    names = {f"p_{label}": probabilities[:, i] for i, label in enumerate(classes)}
    by_pieces[name] = of_pieces.assign(prediction=decide(probabilities, classes, None), **names)
of_splits = compared({"subjects": by_pieces["subjects"]} | by_pieces)
table(
    [
        {
            f"split of {len(pieces)} pieces by": name,
            "macro-F1": with_bounds(*of_splits.loc[name, BOUNDS]),
            "more than by subjects": difference_in_words(*-of_splits.loc[name, LESS].iloc[[0, 2, 1]]) if name != "subjects" else "",
        }
        for name in by_pieces
    ]
)

# %% tags=["remove_input"]
figure, axes = plt.subplots(figsize=(8, 3.4), layout="constrained")
drawn = macro.loc[list(results)]
for number, (name, row) in enumerate([*drawn.iterrows(), *of_splits.loc[list(by_pieces)].iterrows()]):
    color = "#c0392b" if "random" in str(name) else "#1f77b4"
    at = number + (0.6 if number >= len(drawn) else 0)
    axes.hlines(at, row["low"], row["high"], color=color, alpha=0.5, linewidth=3)
    axes.plot(row["value"], at, "o", color=color)
    axes.text(1.01, at, f"{row['value']:.3f}", transform=axes.get_yaxis_transform(), va="center", fontsize=8)
ticks = [*range(len(drawn)), *(len(drawn) + 0.6 + i for i in range(len(by_pieces)))]
axes.set_yticks(ticks, [*drawn.index, *(f"trees on pieces, split by {name}" for name in by_pieces)], fontsize=8)
axes.invert_yaxis()
axes.grid(axis="x", alpha=0.3)
axes.set(xlabel="macro-F1, 95 % interval by bootstrap over subjects", title="Random splits (red) and splits by subject (blue)")
axes.title.set_fontsize(10)
show(figure, "Macro-F1 of all models, random splits in red and splits by subject in blue")

# %% [markdown]
# ## Frozen or not
#
# `fine_tune` first trains the new last layers alone, the rest being **frozen**, for one epoch; then it **unfreezes** all layers and
# trains them together. (fastai leaves batch norm trainable in frozen layers; the pipeline freezes it as well.) How many
# numbers are trained, and at which rate? `fine_tune(base_lr=0.002)` gives `slice(1e-5, 1e-3)` to all layers: **discriminative
# learning rates**, from the first group of layers to the last in equal factors, since the first layers' edges and onsets suit any
# picture and the last ones do not.


# %%
def trainable(parameters) -> str:
    return f"{sum(p.numel() for p in parameters if p.requires_grad):,}"


tutorial.freeze()
frozen_groups = [trainable(group) for group in tutorial.splitter(tutorial.model)]
tutorial.unfreeze()
tutorial.opt.set_hyper("lr", slice(1e-5, 1e-3))
rates = [f"{hyper['lr']:.0e}" for hyper in tutorial.opt.hypers]
names = ["stem to second stage", "third and fourth stage", "head: two linear layers"]
counts = [trainable(group) for group in tutorial.splitter(tutorial.model)]
table(
    [
        {"tutorial's layer group": name, "trained when frozen": frozen, "trained when not": n, "rate": rate}
        for name, frozen, n, rate in zip(names, frozen_groups, counts, rates, strict=True)
    ]
)

# %% [markdown]
# The pipeline has two groups, the backbone and the last layer, and one setting, `training.backbone_rate`: the backbone's share
# of the learning rate.

# %%
net = build_net(len(classes))
load_pretrained(net, backbone().net.state_dict(), "backbone")
first = manifests[0]
parts = (first[first["part"] == part].reset_index(drop=True) for part in ("train", "valid"))
learner = build_learner(net, build_dataloaders(*parts, tuple(classes), RECIPE, store), RECIPE)
learner.path = work  # where the rate finder saves the weights that it restores
groups = learner.splitter(net)
learner.freeze()
frozen_groups = [trainable(group) for group in groups]
learner.unfreeze()
table(
    [
        {"pipeline's layer group": name, "trained when frozen": frozen, "trained when not": trainable(group), "rate": f"{rate:.0e}"}
        for name, group, frozen, rate in zip(
            ("backbone", "last layer"), groups, frozen_groups, (RECIPE.learning_rate * RECIPE.backbone_rate, RECIPE.learning_rate),
            strict=True,
        )
    ]
)  # fmt: skip

# %% [markdown]
# ## The learning-rate finder
#
# Train for a hundred batches, raise the rate a little at each, and note the loss: flat while the rate is too small to
# matter, falling while it is right, exploding when it is too large. `steep` suggests where the loss falls fastest, `valley` a
# point two thirds into the longest fall, `minimum` a tenth of where it is lowest. It is a hint, not a measurement: the loss is of
# few batches, smoothed, and one other seed may suggest half or twice the rate.

# %%
found = {}
for name in ("last layer alone", "all layers"):
    set_seed(0, reproducible=True)
    learner.freeze() if name == "last layer alone" else learner.unfreeze()
    with learner.no_bar(), learner.no_logging():
        suggested = learner.lr_find(
            num_it=12 if SMALL else 100, suggest_funcs=(steep, valley, minimum), show_plot=False
        )
    found[name] = (np.array(learner.recorder.lrs), np.array(learner.recorder.losses, float), suggested)
table(
    [
        {"trained": name} | {f"suggested by {rule}": f"{rate:.1e}" for rule, rate in suggested._asdict().items()}
        for name, (_, _, suggested) in found.items()
    ]
)
say(f"The pipeline's default is {RECIPE.learning_rate:g} as the maximum of a one-cycle schedule, which starts and ends far below it.")

# %% tags=["remove_input"]
figure, panels = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
for axes, (name, (lrs, losses, suggested)) in zip(panels, found.items(), strict=True):
    axes.plot(lrs[:-2], losses[:-2], color="#1f77b4")
    for (rule, rate), color in zip(suggested._asdict().items(), ("#13795b", "#c0392b", "#9aa5b1"), strict=True):
        axes.plot(rate, np.interp(rate, lrs, losses), "o", color=color, label=f"{rule}: {rate:.1e}")
    axes.axvline(RECIPE.learning_rate, color="black", linestyle="--", linewidth=0.8, label=f"default: {RECIPE.learning_rate:g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss, smoothed", title=name)
    axes.set_ylim(losses[:-2].min() * 0.95, np.percentile(losses[:-2], 90) * 1.15)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
show(figure, "Loss against learning rate, of the last layer alone and of all layers")

# %% [markdown]
# ## Which weights to start from
#
# The same recipe from random weights, from a network that was trained on synthetic heart sounds only (`heartbeat pretrain`:
# nobody's recordings, so nothing can leak), and from ImageNet's photographs; and from the synthetic ones with the backbone
# frozen, or at one rate for all layers.

# %%
synthetic = backbone().net.state_dict()
fixed = RECIPE.model_copy(update={"frozen_epochs": 2 if SMALL else 8, "epochs": 0})
arms = {
    "synthetic sounds, discriminative rates": (synthetic, RECIPE),
    "synthetic sounds, one rate": (synthetic, RECIPE.model_copy(update={"backbone_rate": 1.0})),
    "synthetic sounds, backbone frozen": (synthetic, fixed),
}
if SMALL:  # the quickest alone
    arms = {"synthetic sounds, backbone frozen": (synthetic, fixed)}
from_weights = {name: scored(pipeline_probabilities(*arm)[0]) for name, arm in arms.items()}
if HAS_IMAGENET:
    from_weights |= {"ImageNet, discriminative rates": results["pipeline, by subject"]}
    from_random = RECIPE.model_copy(update={"init": "random"})
    from_weights |= {"random weights": scored(pipeline_probabilities(None, from_random)[0])}
else:
    from_weights |= {"random weights": results["pipeline, by subject"]}
of_weights = compared(from_weights)
say(f"The synthetic start is {backbone().origin}.")
table(
    [
        {
            "from": name,
            "macro-F1": with_bounds(*of_weights.loc[name, BOUNDS]),
            "the first less this one": difference_in_words(*of_weights.loc[name, LESS]) if number else "",
        }
        for number, name in enumerate(from_weights)
    ]
)
if not HAS_IMAGENET:
    say(
        "**ImageNet** is not in the table, as its weights are not on this machine, which has no network. Where there is one, "
        "`training.init=imagenet` (or `auto`, the default) downloads them once; else copy torchvision's "
        f"`{IMAGENET_FILE.name}` from another machine into the folder `checkpoints` of `torch.hub.get_dir()`. This page then shows them, "
        "and the tutorial's network above starts from them too."
    )
say(
    "Differences whose interval contains 0 may be luck: one seed, two halves. What was measured with several seeds is in "
    "[studies](../studies.md#ablations) and [training](../training.md#initial-weights)."
)

# %% tags=["remove_input"]
folder.cleanup()
footer(4, "One seed; training is the same on the same machine, and differs in its last digits on others.")
