"""The page to try a recording, in Debian's Chromium."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import beats, served_app, write_wav

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(not CHROMIUM.is_file(), reason="there is no Chromium")
FAKE_MICROPHONE = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
TIMEOUT_MS = 60_000


@pytest.fixture(scope="module")
def address(make_app) -> Iterator[str]:
    with served_app(make_app()) as at:
        yield f"http://{at}"


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", *FAKE_MICROPHONE])
        yield opened
        opened.close()


@pytest.fixture
def page(browser, address: str) -> Iterator:
    """The page at a phone's width; fails when it logs an error or asks another server."""
    context = browser.new_context(viewport={"width": 375, "height": 700}, permissions=["microphone"])
    opened, faults = context.new_page(), []
    opened.set_default_timeout(TIMEOUT_MS)
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("request", lambda request: faults.append(request.url) if _is_foreign(request.url, address) else None)
    opened.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
    opened.goto(address)
    yield opened
    context.close()
    assert not faults


def _is_foreign(url: str, address: str) -> bool:
    return not url.startswith((address, "blob:", "data:"))


def overflows(page) -> bool:
    """Whether the page has to be scrolled sideways."""
    return page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")


def painted(page, canvas: str) -> int:
    """How many colours a canvas has."""
    return page.evaluate(
        """id => { const c = document.getElementById(id), d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
        const seen = new Set(); for (let i = 0; i < d.length; i += 4) seen.add(d.slice(i, i + 4).join()); return seen.size; }""",
        canvas,
    )


def test_a_chosen_recording_is_answered(page, tmp_path: Path):
    assert not overflows(page)
    page.set_input_files("#file", write_wav(tmp_path / "<b>a.wav", beats(duration_s=8)))
    page.wait_for_selector("#result:visible")
    assert page.locator("#bars button").count() == 3
    assert page.locator("#bars img").count() == 0  # a class's name is text, not markup
    assert "probability of" in page.locator("#sentence").inner_text()
    assert "Heart rate: " in page.locator("#rate").inner_text()
    assert "version 3" in page.locator("#model").inner_text()
    assert "Research use only" in page.locator("header").inner_text()
    assert painted(page, "wave") > 1
    assert painted(page, "picture") > 20
    assert not overflows(page)
    page.get_by_role("button", name="normal").click()
    page.get_by_text(re.compile("speaks for normal$")).wait_for()
    assert page.get_by_role("button", name="normal").get_attribute("aria-pressed") == "true"


def test_a_recording_may_be_dropped(page, tmp_path: Path):
    content = list(write_wav(tmp_path / "a.wav", beats()).read_bytes())
    page.evaluate(
        """bytes => { const dropped = new DataTransfer(); dropped.items.add(new File([new Uint8Array(bytes)], "a.wav"));
        document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: dropped, bubbles: true, cancelable: true})); }""",
        content,
    )
    page.wait_for_selector("#result:visible")


def test_a_file_that_is_no_recording_is_refused_in_a_sentence(page, tmp_path: Path):
    (tmp_path / "a.txt").write_text("not a sound")
    page.set_input_files("#file", tmp_path / "a.txt")
    page.wait_for_selector("#status.error")
    assert "No answer: cannot be decoded as audio (it is text, not sound" in page.locator("#status").inner_text()
    assert page.locator("#result").is_hidden()
    page.set_input_files("#file", write_wav(tmp_path / "a.wav", beats()))  # the next one is answered
    page.wait_for_selector("#result:visible")
    assert page.locator("#status").inner_text() == ""


def test_a_recording_by_the_microphone_is_answered_or_refused(page):
    page.get_by_role("button", name="Record with the microphone").click()
    page.get_by_text("Stop (3 s)").click()
    page.locator("#result:visible, #status.error").first.wait_for()
    said = page.locator("#status").inner_text()
    assert said == "" or (said.startswith("No answer: ") and "decoded" not in said)
    assert page.locator("#record").inner_text() == "Record with the microphone"


def test_the_page_works_by_keyboard(page, tmp_path: Path):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "record"
    assert page.get_by_label("Choose a recording").count() == 1


def test_the_description_of_the_api_fits_a_phone(page, address: str):
    page.goto(f"{address}/docs")
    assert "POST /predict" in page.locator("body").inner_text()
    assert not overflows(page)
