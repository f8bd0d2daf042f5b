"""The page of a run: what it says, that odd names are shown as they are, and how a browser sees it."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import LABEL, parsed, tone

from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.reports.clips import make_clip
from heartdata.reports.listening import Chapter, Entry
from heartdata.reports.report import MOST_CLASSES, MOST_PAIRS, Run, report_page
from heartdata.scoring.calibration import Calibration
from heartdata.scoring.metrics import metrics_with_intervals, per_class
from heartdata.scoring.promotion import Decision, Gate

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
REVERSED = "a\u202egnp.wav"


def run_of(classes: list[str], recordings: int = 60, **changes: Any) -> Run:
    """A run of synthetic predictions, two recordings a subject."""
    rng = np.random.default_rng(0)
    labels = np.array(classes, object)[np.arange(recordings) % len(classes)]
    probabilities = rng.dirichlet(np.ones(len(classes)), recordings)
    ids = [f"{n}.wav" for n in range(recordings)]
    rows = pd.DataFrame(probabilities, columns=[f"p_{name}" for name in classes]).assign(
        recording_id=ids, group=[str(n // 2) for n in range(recordings)], label=labels,
        prediction=np.array(classes, object)[probabilities.argmax(axis=1)],
    )  # fmt: skip
    metrics = pd.DataFrame(metrics_with_intervals({"resnet34": rows, "metadata only": rows}, classes, 20, 0))
    manifest = rows[["recording_id", "group", "label"]].assign(part="test")
    return replace(
        Run(
            model="heartbeat", version=7, source="table", usage="Research use only", decision=None, recordings=manifest,
            accepted=manifest, quarantine=manifest[:0], manifest=manifest, metrics=metrics, predictions=rows,
            per_class=per_class(rows, classes).to_dict("index"), classes=classes, calibration=Calibration(), slices=None, slices_left_out={}, compared_by="macro_f1", notes=[], provenance={"data set version": "0" * 64},
            commands={"Use it": "heartbeat predict"}, settings="{}",
        ),
        **changes,
    )  # fmt: skip


def entry(**changes: Any) -> Entry:
    clip = make_clip(tone(60, 2.0), 4000, SpectrogramConfig())
    return replace(
        Entry("a.wav", "murmur", "normal", "s1", "/data/a.wav", None, probabilities=(("murmur", 0.9),), clip=clip),
        **changes,
    )


def test_the_page_says_what_was_decided_and_by_what():
    gates = (
        Gate(name="over the champion", value=0.0312, bound=0.0, passed=True),
        Gate(name="held-out subjects", value=8, bound=20, passed=False),
        Gate(name="slice", value=None, bound=None, passed=False, detail="site AV is worse"),
    )
    reason = "macro-F1 .61 against .58"
    page = report_page(run_of(["a", "b"], decision=Decision(outcome="kept", reason=reason, gates=gates)), [])
    text = " ".join(" ".join(parsed(page).text).split())
    assert "Not promoted: macro-F1 .61 against .58" in text
    assert "over the champion 0.031 0.000 ✓ yes" in text
    assert "held-out subjects 8 20 ✗ no" in text
    assert "slice – – ✗ no site AV is worse" in text
    assert "No decision was made" in " ".join(" ".join(parsed(report_page(run_of(["a", "b"]), [])).text).split())


@pytest.mark.parametrize(
    ("bound", "text"),
    [(0.0, "No prediction is unsure"), (0.3224, "Predictions of a probability below 0.322 are unsure")],
)
def test_the_page_says_which_predictions_are_unsure(bound: float, text: str):
    page = report_page(run_of(["a", "b", "c"], calibration=Calibration(unsure_below=bound)), [])
    assert text in " ".join(" ".join(parsed(page).text).split())


def test_names_that_look_like_markup_or_turn_text_round_are_shown_as_they_are():
    odd = entry(
        recording_id=REVERSED, verdict=LABEL, label="\x07bell", subject=LABEL, uri=f"/data/{LABEL}", reason=LABEL
    )
    chapters = [Chapter(LABEL, LABEL, (odd, replace(odd, predicted=False)), 2)]
    run = run_of([LABEL, "normal"], model=LABEL, notes=[LABEL], provenance={LABEL: LABEL}, settings=LABEL)
    page = report_page(replace(run, decision=Decision(outcome="kept", reason=LABEL)), chapters)
    read = parsed(page)
    assert read.found == []
    assert "script" not in read.tags
    assert page.isprintable() or not any(c in page for c in "\u202e\x07\x00")
    assert "a\\u202egnp.wav" in page
    assert read.text.count(LABEL) > 5


def test_slices_are_shown_by_the_metric_that_decides():
    columns = ["attribute", "slice", "recordings", "subjects", "metric", "value", "low", "high"]
    rows = [
        ("age_group", "child", 9, 7, metric, value, np.nan, np.nan)
        for metric, value in (("auroc", 0.9), ("macro_f1", 0.6))
    ]
    run = run_of(["a", "b"], slices=pd.DataFrame(rows, columns=columns), slices_left_out={"site": 980, "age_group": 2})
    text = " ".join(" ".join(parsed(report_page(run, [])).text).split())
    assert "age group child 0.600 9 7" in text
    assert "not among the 20 with most: 980 of site, 2 of age group." in text


@pytest.mark.parametrize(
    ("level", "words"), [(0.0, "All of its 2.0 s, silent or almost silent"), (0.01, "All of its 2.0 s, 34 dB louder")]
)
def test_a_silent_clip_is_called_silent(level: float, words: str):
    clip = make_clip(tone(60, 2.0, level=level), 4000, SpectrogramConfig())
    page = report_page(run_of(["a", "b"]), [Chapter("Worst mistakes", "", (entry(clip=clip),), 1)])
    assert words in " ".join(" ".join(parsed(page).text).split())


@pytest.mark.parametrize(("recordings", "said"), [(20, True), (4000, False)])
def test_a_reliability_of_few_predictions_is_said_to_be_chance(recordings: int, said: bool):
    page = report_page(run_of(["a", "b"], recordings), [])
    assert ("fewer than 10, the accuracy is mostly chance" in page) is said


def test_many_classes_become_a_list_of_the_commonest_mistakes():
    classes = [f"class {n:03}" for n in range(100)]
    page = report_page(run_of(classes, 1000), [])
    assert "The commonest mistakes" in page
    assert page.count("<tr>") < 100 + 100 + 100 + MOST_PAIRS + 50
    assert len(page) < 600_000
    assert 'class="confusion"' in report_page(run_of(classes[:MOST_CLASSES], 100), [])


def test_what_is_not_shown_is_counted():
    page = report_page(run_of(["a", "b"]), [Chapter("Worst mistakes", "The most confident first.", (entry(),), 41)])
    text = " ".join(" ".join(parsed(page).text).split())
    assert "Worst mistakes 1 of 41 The most confident first. 40 more are not shown." in text


def test_the_same_run_is_the_same_page():
    chapters = [Chapter("Worst mistakes", "", (entry(),), 1)]
    assert report_page(run_of(["a", "b"]), chapters) == report_page(run_of(["a", "b"]), chapters)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


LOADED = """async audio => {
    audio.preload = 'auto';
    audio.load();
    await new Promise((done, failed) => { audio.oncanplaythrough = done; audio.onerror = failed; });
    return audio.duration;
}"""


@pytest.mark.parametrize("width", [375, 1280])
def test_a_browser_plays_the_clips_asks_nobody_and_needs_no_wider_window(browser: Any, tmp_path: Path, width: int):
    name = "ward-a/" + "a_very_long_name" * 8 + ".wav"
    chapters = [Chapter("Worst mistakes", "", (entry(recording_id=name, uri=f"/data/{name}"), entry()), 2)]
    file = tmp_path / "report.html"
    file.write_text(report_page(run_of([f"a class with a long name {n}" for n in range(12)]), chapters))
    page = browser.new_page(viewport={"width": width, "height": 800})
    messages: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.as_uri())
    assert [page.evaluate(LOADED, audio) for audio in page.query_selector_all("audio")] == [
        pytest.approx(2, abs=0.1)
    ] * 2
    assert all(page.eval_on_selector_all("img", "images => images.map(i => i.complete && i.naturalWidth > 0)"))
    assert all(page.eval_on_selector_all("img", "images => images.map(i => i.alt.length > 0)"))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert messages == []
    assert [url for url in requests if not url.startswith("data:")] == [file.as_uri()]
    page.close()
