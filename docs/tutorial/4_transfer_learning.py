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

import figures
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from common import SMALL, backbone, data_folder, footer, say, show, table
from fastai.callback.schedule import minimum, steep, valley
from fastai.torch_core import set_seed
from scores import calibration_error, compared, predicted_rows
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
from heartdata.errors import ConfigError
from heartdata.scoring.baselines import classical_baseline, majority_baseline, metadata_baseline
from heartdata.scoring.calibration import apply_calibration, fit_calibration
from heartdata.scoring.features import spectrogram_features
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
SIZE, EPOCHS, FOLDS = (32, 1, 2) if SMALL else (128, 4, 2)
IMAGENET_FILE = Path(torch.hub.get_dir(), "checkpoints", Path(ResNet34_Weights.IMAGENET1K_V1.url).name)


def imagenet_on_disk() -> dict[str, torch.Tensor] | None:
    """The weights if they are in torch's cache; nothing is downloaded."""
    try:
        return imagenet_weights() if IMAGENET_FILE.is_file() and not SMALL else None
    except ConfigError:  # another file of that name
        return None


imagenet = imagenet_on_disk()

# %% [markdown]
# The recordings: PASCAL's set B (a digital stethoscope; normal, murmur, extrastole), or synthetic ones where it is not at hand.

# %%
pascal = data_folder("pascal")
if pascal and not SMALL:
    config = build_config("pascal", str(pascal), changes={"source.sets": ["set_b"]})
else:
    few = {
        "subjects_per_class": 4 if SMALL else 25,
        "sites": 1 if SMALL else 2,
        "duration_s": (2, 3) if SMALL else (4, 6),
        "plant_faults": False,
    }
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
    work / "pictures", valid_pct=0.2, seed=42, item_tfms=Resize(SIZE), bs=32, num_workers=0
)
tutorial = vision_learner(pictures, resnet34, metrics=accuracy, pretrained=imagenet is not None)
with tutorial.no_bar(), tutorial.no_logging():
    tutorial.fine_tune(EPOCHS)
    _, tutorial_accuracy = tutorial.validate()

# %%
subject_of = {Path(row.uri).stem: row.subject for row in labelled.itertuples()}
trained_on, held_out = (
    [subject_of[path.stem] for path in part.items] for part in (pictures.train_ds, pictures.valid_ds)
)
known = np.mean([subject in trained_on for subject in held_out])
shares = labelled["label"].value_counts(normalize=True)
say(
    f"Accuracy on the random fifth: **{tutorial_accuracy:.3f}**. A tutorial would end here. But *{shares.index[0]}* for everything "
    f"would have {shares.iloc[0]:.3f} ([page 6](6_metrics.md)), and {known:.0%} of the {len(held_out)} recordings in that fifth are of people who "
    "are in the other four fifths too."
)
if imagenet is None:
    say(
        "The network began with random weights, as ImageNet's are not on this machine ([below](#which-weights-to-start-from)), and "
        "`fine_tune` is made for weights worth keeping: it trains the first layers slowly. With those of ImageNet the tutorial may do better than it does here."
    )

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


RECIPE = NetworkConfig(epochs=1 if SMALL else 6, batch=4 if SMALL else 16, width=32 if SMALL else 128, patience=100)


def fine_tuned(rows: pd.DataFrame, initial: dict[str, torch.Tensor] | None, recipe: NetworkConfig) -> Predictor:
    """A network trained on part train, its epoch chosen on part valid."""
    trained = train(rows, initial, recipe, store)
    model = ModelConfig(
        classes=trained.classes,
        width=recipe.width,
        spectrogram=config.spectrogram,
        dataset_version="",
        init=recipe.init,
    )
    return Predictor(trained.net.to(memory_format=torch.channels_last), model)


# %% [markdown]
# What the two networks see of one recording:

# %%
manifests = [manifest(fold) for fold in range(FOLDS)]
everything = manifests[0].drop(columns=["part", "fold"])
classes = sorted(everything["label"].unique())
spectrograms = Shards(store)
spectrograms.open(everything)

# %% tags=["remove_input"]
uri_of = recordings.set_index("recording_id")["uri"]
shown = []
for row in (everything.loc[everything["duration_s"].idxmin()], everything.loc[everything["duration_s"].idxmax()]):
    png = work / "pictures" / row["label"] / f"{Path(uri_of[row['recording_id']]).stem}.png"
    spectrogram = spectrograms.spectrogram(row["shard"], row["start"], row["frames"])
    shown.append((png, spectrogram, row["duration_s"], window_starts(len(spectrogram), RECIPE.width)))
show(
    figures.inputs(shown, config.spectrogram.hop_s),
    "The shortest and the longest recording, as the tutorial's picture and as the pipeline's spectrogram",
)

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
hop_s, window_s = config.spectrogram.hop_s, RECIPE.width * config.spectrogram.hop_s
differences = [
    ("input", "a PNG of colours: 8 bits, three channels", "log-mel in dB as floats, one channel", "loudness is one number; louder is not always more red, green or blue"),
    ("frequencies", f"librosa's defaults, to 11 kHz: {empty:.0%} of the picture is above what a file of {rate_hz} Hz can hold", f"{config.spectrogram.low_hz:.0f} to {config.spectrogram.high_hz:.0f} Hz, {config.spectrogram.mel_bands} bands", "heart sounds and murmurs are below 1 kHz"),
    ("level", "relative to the recording's loudest point", "each band to mean 0, deviation 1", "removes a constant colouring by the device"),
    ("length", f"{everything['duration_s'].min():.1f} s and {everything['duration_s'].max():.1f} s squeezed to one width", f"windows of {window_s:.1f} s, a random one an epoch", "else the time scale, and with it the heart rate, differs from picture to picture"),
    ("split", "random over files", "by subject; validation apart from test", f"a subject has up to {per_subject.max()} recordings here"),
    ("copies and faults", "all files used", f"{len(refused)} of {len(labelled)} labelled ones refused" + (f" ({reasons})" if reasons else ""), "a copy in both parts is a leak; a wrong file teaches nothing"),
    ("class balance", f"as they come: {shares.iloc[0]:.0%} {shares.index[0]}, {shares.iloc[-1]:.0%} {shares.index[-1]}", "every class drawn equally often", "else the rare class is hardly trained on"),
    ("what is scored", "a picture", f"a recording: the mean over its windows ({np.mean(windows_per_recording):.1f} on average)", "a murmur may be clear in one window only"),
    ("epoch kept", "the last", "chosen on validation subjects, by macro-F1", "the test part chooses nothing"),
    ("decision", "the most probable class", "temperature, class weights and a bound for unsure ones, fitted to validation subjects", "a confidence should be the chance of being right"),
    ("score", "accuracy", "macro-F1, AUROC, ... with intervals over subjects, beside baselines", "accuracy is mostly the share of the common class"),
    ("afterwards", "a pickle (learn.export)", "safetensors, with data set version, settings, code, and what the weights were trained on", "any score can be traced to the audio"),
    ("the next night", "everything again", "only what is new: files, spectrograms and trainings are cached by content", "hours become seconds"),
]  # fmt: skip
table([dict(zip(("", "tutorial", "pipeline", "why"), row, strict=True)) for row in differences])

# %% [markdown]
# ## Both on the same recordings
#
# The accepted recordings are split into two halves by subject; each network is trained on one half and scored on the other, so
# every recording is scored once by a network that has not met its subject. The tutorial's network is also scored as tutorials
# do it, on two random halves. Both start from the same kind of weights, and are scored by their most probable class. The
# pipeline trains on less: it keeps a fifth of its half to choose epoch, temperature and class weights.

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
            bs=32, num_workers=0,
        )  # fmt: skip
        learner = vision_learner(data, resnet34, pretrained=imagenet is not None)
        with learner.no_bar(), learner.no_logging():
            learner.fine_tune(EPOCHS)
            probabilities[fold_of == fold] = learner.get_preds()[0].numpy()
    return probabilities


def pipeline_probabilities(
    initial: dict[str, torch.Tensor] | None, recipe: NetworkConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated probabilities, and class weights fitted to validation subjects: shapes (recordings, classes)."""
    probabilities, weights = (np.zeros((len(everything), len(classes))) for _ in range(2))
    for rows in manifests:
        predictor = fine_tuned(rows, initial, recipe)
        valid, test = (rows[rows["part"] == part] for part in ("valid", "test"))
        calibration = fit_calibration(predict_probabilities(predictor, valid, store), valid, classes, config.decision)
        at = (rows["part"] == "test").to_numpy()  # all manifests are sorted by recording
        probabilities[at] = apply_calibration(predict_probabilities(predictor, test, store), calibration)
        weights[at] = calibration.class_weights
    return probabilities, weights


subject_folds = np.select([m["part"] == "test" for m in manifests], range(FOLDS))
random_folds = np.zeros(len(everything), int)
for number, (_, test) in enumerate(KFold(FOLDS, shuffle=True, random_state=0).split(everything)):
    random_folds[test] = number
seen = pd.Series(random_folds).groupby(everything["group"]).transform("nunique").to_numpy() > 1


def scored(probabilities: np.ndarray, weights: np.ndarray | float = 1.0) -> pd.DataFrame:
    return predicted_rows(everything[["label", "group"]], probabilities, classes, weights)


# %%
RANDOM = RECIPE.model_copy(update={"init": "random"})
plain, weights = pipeline_probabilities(imagenet, RECIPE if imagenet else RANDOM)
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
    "pipeline, at its operating point": scored(plain, weights),
} | {f"{name}, by subject": scored(probabilities) for name, probabilities in rows_of.items()}


# %%
macro, plain_accuracy = compared(results, classes), compared(results, classes, "accuracy")
start = "random weights" if imagenet is None else "ImageNet"
table(
    [
        {
            f"from {start}": name,
            "accuracy": plain_accuracy.loc[name, "text"],
            "macro-F1": macro.loc[name, "text"],
            "ECE": f"{calibration_error(rows, classes):.3f}",
        }
        for name, rows in results.items()
    ]
)
by_subject = {name: results[name] for name in ("pipeline, by subject", "tutorial, by subject")}
say(
    f"By subject, the pipeline's network less the tutorial's, in macro-F1: {compared(by_subject, classes)['less'].iloc[1]}. "
    "Both learned from half of the subjects and for a few epochs; the [studies](../studies.md) train longer, on more."
)

# %% [markdown]
# ## The leak made visible
#
# The tutorial's network, on the same recordings, by the random split and by subject:

# %%
leak = compared({name: results[name] for name in ("tutorial, random split", "tutorial, by subject")}, classes)
say(
    f"In the random split {seen.mean():.0%} of the recordings are of a subject that the network was trained on. Macro-F1, random "
    f"split less by subject: {leak['less'].iloc[1]}."
)

# %% [markdown]
# A network that has seen few pictures for few epochs remembers few people. Many tutorials also cut recordings into pieces, to
# have more pictures, and split the *pieces* at random. Then the same heart through the same stethoscope, a second later, is in
# training and test, and where pieces overlap the very same beat. Here trees on simple features of pieces that overlap by half,
# by three splits:

# %%
pieces, piece_of = [], []
width = 16 if SMALL else 64  # columns
for number, row in enumerate(everything.itertuples()):
    spectrogram = spectrograms.spectrogram(row.shard, row.start, row.frames)
    for at in window_starts(len(spectrogram), width):
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
        trees = ExtraTreesClassifier(20 if SMALL else 100, class_weight="balanced", random_state=0)
        trees.fit(pieces[training], of_pieces["label"].to_numpy(str)[training])
        probabilities[test] = trees.predict_proba(pieces[test])
    by_pieces[name] = predicted_rows(of_pieces, probabilities, classes)
of_splits = compared(by_pieces, classes)
table(
    [
        {
            f"{len(pieces)} pieces of {width * config.spectrogram.hop_s:.1f} s, split by": name,
            "macro-F1": of_splits.loc[name, "text"],
            "less by subjects": compared({name: rows, "subjects": by_pieces["subjects"]}, classes)["less"].iloc[-1],
        }
        for name, rows in by_pieces.items()
    ]
)

# %% tags=["remove_input"]
show(
    figures.splits(macro, of_splits.rename(index="trees on pieces, split by {}".format)),
    "Macro-F1 of all models, random splits in red and splits by subject in blue",
)

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
# What the choice is worth, from the weights of synthetic sounds:

# %%
synthetic = backbone().net.state_dict()
fixed = RECIPE.model_copy(update={"frozen_epochs": 2 if SMALL else 8, "epochs": 0})
ways = {"last layer alone": fixed, "all layers, one rate": RECIPE.model_copy(update={"backbone_rate": 1.0})}
ways = {"all layers, discriminative rates": RECIPE} | ways if not SMALL else {"last layer alone": fixed}
by_way = {name: scored(pipeline_probabilities(synthetic, recipe)[0]) for name, recipe in ways.items()}
of_ways, all_layers = compared(by_way, classes), sum(p.numel() for p in net.parameters())
table(
    [
        {
            "trained": name,
            "parameters": trainable(groups[1]) if recipe is fixed else f"{all_layers:,}",
            "macro-F1": of_ways.loc[name, "text"],
            "the first less this one": of_ways.loc[name, "less"],
        }
        for name, recipe in ways.items()
    ]
)

# %% [markdown]
# ## The learning-rate finder
#
# Train for a hundred batches, raise the rate a little at each, and note the loss: flat while the rate is too small to
# matter, falling while it is right, exploding when it is too large. `steep` suggests where the loss falls fastest, `valley` the
# middle of the longest fall, `minimum` a tenth of where it is lowest. It is a hint, not a measurement: the loss is of few
# batches, smoothed, and another seed may suggest half or twice the rate.

# %%
found = {}
for name in ("last layer alone", "all layers"):
    set_seed(0, reproducible=True)
    learner.freeze() if name == "last layer alone" else learner.unfreeze()
    with learner.no_bar(), learner.no_logging():
        suggested = learner.lr_find(
            num_it=12 if SMALL else 100, suggest_funcs=(steep, valley, minimum), show_plot=False
        )
    found[name] = (np.array(learner.recorder.lrs), np.array(learner.recorder.losses, float), suggested._asdict())
table(
    [
        {"trained": name} | {f"suggested by {rule}": f"{rate:.1e}" for rule, rate in suggested.items()}
        for name, (_, _, suggested) in found.items()
    ]
)
say(
    f"The pipeline's default is {RECIPE.learning_rate:g} as the maximum of a one-cycle schedule, which starts and ends far below it."
)

# %% tags=["remove_input"]
show(
    figures.rate_finder(found, RECIPE.learning_rate),
    "Loss against learning rate, of the last layer alone and of all layers",
)

# %% [markdown]
# ## Which weights to start from
#
# The same recipe from random weights, from a network that was trained on synthetic heart sounds only (`heartbeat pretrain`:
# nobody's recordings, so nothing can leak), and from ImageNet's photographs.

# %%
best = next(iter(ways))
from_weights = {f"synthetic sounds, {best}": by_way[best]}
if imagenet:
    from_weights |= {
        "ImageNet": results["pipeline, by subject"],
        "random": scored(pipeline_probabilities(None, RANDOM)[0]),
    }
else:
    from_weights |= {"random": results["pipeline, by subject"]}
of_weights = compared(from_weights, classes)
say(f"The synthetic start is {backbone().origin}.")
table(
    [
        {"weights to start from": name, "macro-F1": row["text"], "the first less this one": row["less"]}
        for name, row in of_weights.iterrows()
    ]
)
if imagenet is None:
    say(
        "**ImageNet** is not in the table, as its weights are not on this machine. Where there is a network, "
        "`training.init=imagenet` (or `auto`, the default) downloads them once; else copy torchvision's "
        f"`{IMAGENET_FILE.name}` from another machine into the folder `checkpoints` of `torch.hub.get_dir()`. Made again, this page "
        "then shows them, and the tutorial's network above starts from them too."
    )
say(
    "Differences whose interval contains 0 may be luck: one seed, two halves. What was measured with several seeds is in "
    "[studies](../studies.md#ablations) and [training](../training.md#initial-weights)."
)

# %% tags=["remove_input"]
folder.cleanup()
footer(4, "One seed; training is the same on the same machine, and differs in its last digits on others.")
