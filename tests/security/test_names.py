"""Names and labels that look like commands: shown in terminals, opened in spreadsheets, given to ffmpeg."""

import csv
import io
import json
from pathlib import Path

import pandas as pd
import pytest
from helpers import beats, fake_ffmpeg, write_wav

from flows.cli.console import note, plain_console, rich_table
from heartdata.audio import ffmpeg
from heartdata.audio.decode import decode
from heartdata.errors import BadAudio, SourceError
from heartdata.scoring.label_errors import Suspects, corrections_csv
from heartdata.serving.formats import write_predictions
from heartdata.sources.corrections import read_corrections
from heartdata.storage.csv_text import csv_text, unescaped

ESCAPES = "a\x1b[2J\x1b]0;title\x07b\x9b31m\x1b]8;;http://x.org\x1b\\c\rd\x08"
FORMULAS = ("=cmd|' /C calc'!A0", "+1+2", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''@x")
PLAIN = ("murmur", "a=b", "'", "'quoted'", "", "patient's", "1 - 2")


@pytest.mark.parametrize("color", ["truecolor", None])
def test_a_terminal_is_sent_no_control_characters_of_names(color: str | None):
    for shown in (ESCAPES, note(ESCAPES), rich_table(ESCAPES, [{"label": ESCAPES, ESCAPES: 1}])):
        console = plain_console()
        console.file = io.StringIO()
        console._color_system, console._force_terminal = None, bool(color)
        console.print(shown)
        text = console.file.getvalue()
        assert not set("\x1b\x07\x9b\r\x08") & set(text)
        assert "a\N{REPLACEMENT CHARACTER}" in text


def test_an_error_has_no_control_characters_of_names():
    assert set("\x1b\x07\x9b\r\x08") & set(ESCAPES)
    assert not set("\x1b\x07\x9b\r\x08") & set(str(SourceError(f"{ESCAPES} is not a table")))


@pytest.mark.parametrize("cell", FORMULAS)
def test_a_formula_is_text_in_a_spreadsheet_and_reads_back(cell: str):
    frame = pd.DataFrame({"label": [cell], cell: [-1.5]})
    read = pd.read_csv(io.StringIO(csv_text(frame), newline=""))
    assert read["label"][0].startswith("'")
    as_read = cell.replace("\r", "\n")
    assert [unescaped(read["label"][0]), *map(unescaped, read.columns)] == [as_read, "label", as_read]
    assert read.iloc[0, 1] == -1.5


@pytest.mark.parametrize("cell", PLAIN)
def test_other_text_stays_as_it_is(cell: str):
    assert csv_text(pd.DataFrame({"label": [cell]})) == pd.DataFrame({"label": [cell]}).to_csv(index=False)
    assert unescaped(cell) == cell


def test_corrections_of_recordings_whose_names_are_formulas_are_read_again(tmp_path: Path):
    rows = pd.DataFrame(
        {"recording_id": FORMULAS, "label": "=x", "suggested": "-y", "sha256": "0", "p_=x": 0.1, "p_-y": 0.9}
    )
    text = corrections_csv(Suspects(rows, len(rows), 0.9))
    rows_written = list(csv.reader(io.StringIO(text, newline="")))
    assert not any(cell[:1] in tuple("=+-@\t\r") for row in rows_written for cell in row)
    (tmp_path / "corrections.csv").write_text(text.replace(",,,,'=x", ",'=x,,,'=x"), newline="")
    corrections = read_corrections(tmp_path / "corrections.csv")
    assert [row.recording for row in corrections] == [" ".join(name.split()) for name in FORMULAS]


def test_predictions_of_such_files_are_text_in_csv_alone(tmp_path: Path):
    frame = pd.DataFrame({"file": FORMULAS, "p_-y": -0.5})
    for name in ("a.csv", "a.json"):
        write_predictions(frame, tmp_path / name)
    assert json.loads((tmp_path / "a.json").read_text())[0]["file"] == FORMULAS[0]
    read = pd.read_csv(tmp_path / "a.csv")
    assert all(read["file"].str.startswith("'"))
    assert read["'p_-y" if "'p_-y" in read else "p_-y"].tolist() == [-0.5] * len(FORMULAS)


M4A = b"\0\0\0\x20ftypM4A " + bytes(2000)


@pytest.mark.parametrize("name", ["-y.m4a", "concat:a|b.m4a", "http:x.m4a", "$(touch trace).m4a", "`touch trace`;.m4a"])
def test_ffmpeg_is_given_a_name_of_our_own(name: str, tmp_path: Path, monkeypatch):
    fake_ffmpeg(tmp_path / "bin", f'for a in "$@"; do echo "$a" >> {tmp_path}/given; done; head -c 48000 /dev/zero')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(M4A)
    decode(Path(name).read_bytes())
    given = (tmp_path / "given").read_text().splitlines()
    assert given[:1] + given[2:] == ["-i", "-f", "s16le", "-"]
    assert Path(given[1]).name.startswith("heartbeat-")
    assert Path(given[1]).is_absolute()
    assert not Path("trace").exists()


PLAYLISTS = {
    "HLS": b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
    "concat": b"ffconcat version 1.0\nfile /etc/passwd\n",
    "SDP": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n",
    "DASH": b"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'><BaseURL>http://127.0.0.1:9/</BaseURL></MPD>",
    "IMF": b"<?xml version='1.0'?><CompositionPlaylist/>",
    "WebVTT": b"WEBVTT\n\n00:00.000 --> 00:09.000\nx\n",
}


@pytest.mark.parametrize("content", PLAYLISTS.values(), ids=PLAYLISTS)
@pytest.mark.parametrize("tag", [b"", b"ID3\4\0\0\0\0\0\3abc", b"\xef\xbb\xbf", b"\n"])
def test_lists_of_other_addresses_are_not_given_to_ffmpeg(content: bytes, tag: bytes, tmp_path: Path, monkeypatch):
    fake_ffmpeg(tmp_path / "bin", f"touch {tmp_path}/ran")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert ffmpeg.format_of(tag + content) is None
    with pytest.raises(BadAudio):
        decode(tag + content)
    assert not (tmp_path / "ran").exists()


def test_the_fake_ffmpeg_of_these_tests_is_one_that_runs(tmp_path: Path, monkeypatch):
    fake_ffmpeg(tmp_path / "bin", f"touch {tmp_path}/ran; head -c 48000 /dev/zero")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    decode(M4A)
    assert (tmp_path / "ran").exists()
    assert decode(write_wav(tmp_path / "a.wav", beats()).read_bytes()).rate_hz == 4000
