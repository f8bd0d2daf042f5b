"""Scores equal scikit-learn's; baselines know no audio; plots are plots."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, roc_auc_score

from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.reports import plots
from heartdata.scoring import baselines
from heartdata.scoring import metrics as scores
from heartdata.storage.store import Store

CLASSES = ["a", "b", "c"]


def made(n: int = 60, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    labels = rng.choice(CLASSES, n)
    probabilities = rng.dirichlet(np.ones(3), n).round(2)  # rounded: ties occur
    probabilities[np.arange(n), [CLASSES.index(x) for x in labels]] += 0.2
    frame = pd.DataFrame(probabilities, columns=[f"p_{c}" for c in CLASSES])
    answers = [CLASSES[i] for i in probabilities.argmax(axis=1)]
    return frame.assign(label=labels, prediction=answers, group=[f"s{i % 15}" for i in range(n)])


def test_figures_equal_scikit_learn_under_weights():
    rows = made()
    weights = np.random.default_rng(1).integers(0, 4, (3, len(rows))).astype(float)
    labels, answers = rows["label"].to_numpy(object), rows["prediction"].to_numpy(object)
    probabilities = rows[[f"p_{c}" for c in CLASSES]].to_numpy()
    ours = scores.compute_metrics(labels, answers, probabilities, CLASSES, weights)
    for w, row in zip(weights, ours.to_dict("records"), strict=True):
        assert row["macro_f1"] == pytest.approx(f1_score(labels, answers, average="macro", sample_weight=w))
        assert row["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, answers, sample_weight=w))
        assert row["accuracy"] == pytest.approx(accuracy_score(labels, answers, sample_weight=w))
        areas = [roc_auc_score(labels == c, probabilities[:, i], sample_weight=w) for i, c in enumerate(CLASSES)]
        assert row["auroc"] == pytest.approx(np.mean(areas))


def test_perfect_and_constant_answers():
    rows = made()
    perfect = rows.assign(prediction=rows["label"], **{f"p_{c}": (rows["label"] == c).astype(float) for c in CLASSES})
    assert all(
        r["value"] == r["low"] == r["high"] == 1 for r in scores.metrics_with_intervals({"m": perfect}, CLASSES, 50, 0)
    )
    constant = {
        r["metric"]: r["value"]
        for r in scores.metrics_with_intervals({"m": rows.assign(prediction="a", p_a=1, p_b=0, p_c=0)}, CLASSES, 50, 0)
    }
    assert constant["balanced_accuracy"] == pytest.approx(1 / 3)
    assert constant["auroc"] == pytest.approx(0.5)


def test_intervals_are_over_groups_not_recordings():
    rows = made(200)
    alone = scores.metrics_with_intervals({"m": rows.assign(group=range(200))}, CLASSES, 400, 0)
    by_success = rows.assign(group=(rows["label"] == rows["prediction"]).astype(int).astype(str))
    few = scores.metrics_with_intervals({"m": by_success}, CLASSES, 400, 0)
    width = [r[0]["high"] - r[0]["low"] for r in (alone, few)]
    assert alone[0]["low"] < alone[0]["value"] < alone[0]["high"]
    assert width[1] > 3 * width[0]


def test_the_difference_of_two_models_is_of_the_same_draws():
    ours = made(200)
    theirs = ours.assign(prediction=ours["prediction"].where(ours.index >= 10, "a"))
    rows = scores.metrics_with_intervals({"ours": ours, "theirs": theirs, "again": ours}, CLASSES, 200, 0)
    found = {row["model"]: row for row in rows if row["metric"] == "accuracy"}
    assert found["theirs"]["difference"] == pytest.approx(found["ours"]["value"] - found["theirs"]["value"])
    assert found["theirs"]["difference_low"] < found["theirs"]["difference"] < found["theirs"]["difference_high"]
    spread = [found[of]["high"] - found[of]["low"] for of in ("ours", "theirs")]
    assert found["theirs"]["difference_high"] - found["theirs"]["difference_low"] < 0.5 * min(spread)
    assert [found["again"][name] for name in scores.DIFFERENCE] == [0, 0, 0]


def manifest() -> pd.DataFrame:
    """Label follows the site in both parts; durations say nothing."""
    rng = np.random.default_rng(0)
    n = 200
    label = rng.choice(["a", "b"], n)
    return pd.DataFrame(
        {"recording_id": [f"r{i}" for i in range(n)], "sha256": [f"h{i}" for i in range(n)], "group": [f"g{i}" for i in range(n)],
         "label": label, "part": ["train"] * 150 + ["test"] * 50, "duration_s": rng.uniform(1, 9, n), "rate_hz": 4000,
         "channels": 1, "source": "t", "collection": "c", "site": np.where(label == "a", "AV", None)}
    )  # fmt: skip


def held_out(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["part"] == "test"]


def test_metadata_baseline_reads_the_site_and_nothing_else():
    told = scores.prediction_rows(held_out(manifest()), baselines.metadata_baseline(manifest(), ["a", "b"]), ["a", "b"])
    assert (told["label"] == told["prediction"]).all()
    blind = manifest().assign(site="AV")
    guessed = scores.prediction_rows(held_out(blind), baselines.metadata_baseline(blind, ["a", "b"]), ["a", "b"])
    assert 0.3 < (guessed["label"] == guessed["prediction"]).mean() < 0.7


def test_metadata_baseline_sees_in_small_sets_too():
    rows = manifest().groupby("part").head(30)
    told = scores.prediction_rows(held_out(rows), baselines.metadata_baseline(rows, ["a", "b"]), ["a", "b"])
    assert (told["label"] == told["prediction"]).all()


def test_majority_baseline_answers_the_commonest_training_class():
    rows = manifest()
    rows.loc[:120, "label"] = "b"
    told = scores.prediction_rows(held_out(rows), baselines.majority_baseline(rows, ["a", "b"]), ["a", "b"])
    assert set(told["prediction"]) == {"b"}


def test_a_subject_is_answered_by_all_recordings_together():
    rows = pd.DataFrame(
        {"recording_id": list("123456"), "sha256": list("123456"), "group": list("AAABBC"), "label": list("aaabab"),
         "prediction": list("bbaabb"), "p_a": [0.4, 0.4, 0.9, 0.8, 0.1, 0.3], "p_b": [0.6, 0.6, 0.1, 0.2, 0.9, 0.7]}
    )  # fmt: skip
    by_mean = scores.subject_rows(rows, rows["group"], ["a", "b"], "mean")
    assert by_mean["subject"].tolist() == ["A", "C"]  # what B has is not known
    assert by_mean["recordings"].tolist() == [3, 1]
    assert by_mean["prediction"].tolist() == ["a", "b"]
    assert by_mean.loc[0, "p_a"] == pytest.approx(17 / 30)
    weighed = scores.subject_rows(rows, rows["group"], ["a", "b"], "mean", (1.0, 2.0))
    assert weighed["prediction"].tolist() == ["b", "b"]
    assert scores.subject_rows(rows, rows["group"], ["a", "b"], "max").loc[0, "p_a"] == pytest.approx(0.6)


def test_nobody_is_scored_where_all_subjects_have_several_labels():
    rows = made(4).assign(recording_id=list("1234"), sha256=list("1234"), label=list("abab"))
    assert scores.subject_rows(rows, pd.Series(list("xxyy")), CLASSES, "mean").empty


def test_per_class_table():
    table = scores.per_class(pd.DataFrame({"label": ["a", "a", "b"], "prediction": ["a", "b", "b"]}), ["a", "b"])
    assert table.loc["a"].tolist() == pytest.approx([1, 0.5, 2 / 3, 2])
    assert table.loc["b", "precision"] == 0.5


def test_a_dollar_in_a_name_is_a_dollar():
    odd = made().replace({"a": "$x_{", "b": "b$"}).rename(columns={"p_a": "p_$x_{", "p_b": "p_b$"})
    for plot in (plots.plot_confusion, plots.plot_roc):
        assert plot(odd, ["$x_{", "b$", "c"], "cost: $5 to $6^").startswith(b"\x89PNG")


def history_of(members: int) -> pd.DataFrame:
    """Two epochs of each network; the last one is kept of the first, the first one of the others."""
    one = pd.DataFrame(
        {"epoch": [0, 1], "train_loss": [2.0, 1.0], "valid_balanced_loss": [2.0, 1.5], "valid_macro_f1": [0.2, 0.6]}
    )
    each = [one.assign(member=i, kept=[i > 0, i == 0]) for i in range(members)]
    return pd.concat(each, ignore_index=True)


def test_training_curves_show_each_network_and_its_kept_epoch(monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "as_png", lambda figure, note: drawn.append(figure) or b"")
    plots.plot_training_curves(history_of(3))
    loss, score = drawn[0].axes
    assert len(score.lines) == 3 * 2
    assert len(loss.lines) == 3 * 3
    assert [line.get_xdata()[0] for line in score.lines if line.get_linestyle() == "--"] == [2, 1, 1]
    assert [text.get_text() for text in score.get_legend().get_texts()] == [
        "validation macro-F1 (recordings)",
        "epoch kept",
    ]


@pytest.mark.parametrize("factor", [1, 0.01, 7, 1e-4])
@pytest.mark.parametrize("spread", [1.02, 1.4, 2, 4, 9, 30, 1e3, 1e6])
def test_losses_can_be_read_from_the_axis(monkeypatch, factor: float, spread: float):
    drawn = []
    monkeypatch.setattr(plots, "as_png", lambda figure, note: drawn.append(figure) or b"")
    plots.plot_training_curves(history_of(1).assign(train_loss=[spread * factor, factor], valid_balanced_loss=factor))
    axes = drawn[0].axes[0]
    low, high = axes.get_ylim()
    shown = [at for at in axes.yaxis.get_majorticklocs() if low <= at <= high]
    assert 3 <= len(shown) <= 13
    assert len(set(axes.yaxis.get_major_formatter().format_ticks(shown))) == len(shown)


def test_spectrograms_are_on_one_scale_of_time(monkeypatch, store: Store):
    drawn = []
    monkeypatch.setattr(plots, "as_png", lambda figure, note: drawn.append(figure) or b"")
    config = SpectrogramConfig()
    frames = [round(seconds / config.hop_s) for seconds in (3, 240)]
    shard = np.zeros((sum(frames), config.mel_bands), np.float16)
    digest = store.write_array("s.npy", shard)
    manifest = pd.DataFrame(
        {"recording_id": ["short", "folder/" + 40 * "x"], "group": ["a", "b"], "part": "train", "label": "normal",
         "shard": "s.npy", "shard_sha256": digest, "start": [0, frames[0]], "frames": frames}
    )  # fmt: skip
    plots.plot_spectrograms(manifest, store, config, each=2)
    short, long = drawn[0].axes
    assert short.get_xlim() == long.get_xlim() == (0, 6)
    assert short.get_title() == "short"
    assert long.get_title() == f"…{31 * 'x'} (6 of 240.0 s)"


def test_the_confusion_matrix_says_how_was_answered(monkeypatch):
    titles = []
    monkeypatch.setattr(plots, "as_png", lambda figure, note: titles.append(figure.axes[0].get_title()) or b"")
    plots.plot_confusion(made(), CLASSES)
    plots.plot_confusion(made(), CLASSES, rule=plots.AT_POINT)
    assert "the most probable class" in titles[0]
    assert "the class at the operating point" in titles[1]


def test_pictures_are_png():
    for plot in (
        plots.plot_training_curves(history_of(1), "note"),
        plots.plot_confusion(made(), CLASSES),
        plots.plot_roc(made(), CLASSES),
    ):
        assert plot.startswith(b"\x89PNG")
        assert len(plot) > 5000
