"""translate: lines in, lines out, pictures and JSON, and what it refuses."""

from __future__ import annotations

import io
import json
import sys

import pytest
import torch

from fingerpost.attention import RNNEncoderDecoder, RNNSearch, Translator, WordSegmenter


@pytest.fixture
def folder(tmp_path):
    """A folder with an untrained translator."""
    return _saved(tmp_path / "model", RNNSearch, attention=8)


def _saved(folder, kind, **changes):
    english, french = WordSegmenter.train(["one two three"]), WordSegmenter.train(["un deux trois"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(english.size, french.size, embedding=8, hidden=8, maxout=8, **changes)
    return Translator(model, english, french).save(folder)


@pytest.fixture
def feed(monkeypatch):
    """Sets standard input."""

    def give(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="ascii"))

    return give


def test_one_line_comes_out_for_each_that_goes_in(command, folder, feed):
    feed("one two\r\n\nthree énorme".encode())
    status, out, err = command("translate", folder, "--width", "3")
    assert (status, err) == (0, "")
    wanted = Translator.load(folder).translate(["one two", "", "three énorme"], width=3)
    assert out == "".join(f"{one.text}\n" for one in wanted)


def test_more_lines_than_are_read_at_once_keep_their_order(command, folder, feed, monkeypatch):
    monkeypatch.setattr("fingerpost.cli.translate._AT_ONCE", 2)
    feed(b"one\ntwo two two\nthree\none one\ntwo\n")
    rows = [json.loads(line) for line in command("translate", folder, "--json")[1].splitlines()]
    assert [row["line"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["source_words"][0] for row in rows] == ["one", "two", "three", "one", "two"]


def test_json_has_score_words_and_alignment(command, folder, feed):
    feed(b"one two\n\n")
    first, empty = map(json.loads, command("translate", folder, "--json", "--usual")[1].splitlines())
    assert len(first["alignment"]) == len(first["target_words"])
    assert len(first["alignment"][0]) == len(first["source_words"]) == 3
    assert first["score"] < 0
    assert (empty["text"], empty["alignment"], empty["complete"]) == ("", None, True)


def test_alignments_are_drawn_for_each_line_but_empty_ones(command, folder, feed, tmp_path):
    feed(b"one two\n\nthree\n")
    status, _, err = command("translate", folder, "--alignments", tmp_path / "deep" / "pictures")
    assert (status, err) == (0, "")
    drawn = sorted((tmp_path / "deep" / "pictures").iterdir())
    assert [path.name for path in drawn] == ["1.svg", "3.svg"]
    assert "<svg" in drawn[0].read_text(encoding="utf-8")


def test_no_input_gives_no_output(command, folder, feed):
    feed(b"")
    assert command("translate", folder) == (0, "", "")


def test_a_run_that_holds_a_translator_is_found_by_its_identifier(command, home, tiny, feed):
    assert command("run", tiny, "--preset", "quick", "--run-dir", home / "mine")[0] == 0
    feed(b"one\n")
    status, _, err = command("translate", "mine")
    assert status == 1
    assert "has no translator" in err
    _saved(home / "mine" / "translator", RNNSearch, attention=8)
    feed(b"one\n")
    assert command("translate", "mine")[0] == 0


@pytest.mark.parametrize(
    ("words", "content", "status", "message"),
    [
        (["nowhere"], b"", 1, "there is no run 'nowhere'"),
        (["{folder}", "--width", "0"], b"", 2, "--width is 0"),
        (["{folder}", "--alignments", "{folder}/translator.json"], b"", 2, "which is a file"),
        (["{folder}"], b"one\ntwo \xff\n", 1, "line 2 of the input is not UTF-8: byte 5 is 0xff"),
        ([], b"", 2, "needs RUN"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(command, folder, feed, words, content, status, message):
    feed(content)
    found, out, err = command("translate", *(word.format(folder=folder) for word in words))
    assert (found, out, err.count("\n")) == (status, "", 1)
    assert message in err


def test_a_model_without_attention_has_no_alignments_to_draw(command, feed, tmp_path):
    fixed = _saved(tmp_path / "fixed", RNNEncoderDecoder)
    feed(b"one\n")
    status, out, err = command("translate", fixed, "--alignments", tmp_path / "pictures")
    assert (status, out) == (2, "")
    assert "has no attention" in err
    feed(b"one\n")
    assert command("translate", fixed)[0] == 0


@pytest.mark.parametrize("words", [["--help"], ["x", "--widht", "3"], ["x", "--width", "0"]])
def test_help_and_wrong_flags_do_not_load_torch(process, words):
    *_, loaded = process("translate", *words)
    assert "torch" not in loaded
