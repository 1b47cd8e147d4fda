"""Subwords: the shared ids, round trips, determinism, what is refused."""

import io
import json
import pickle

import pytest
import sentencepiece

from fingerpost.attention import EOS, UNK, Subwords, load_segmenter
from fingerpost.errors import InvalidTypeError, InvalidValueError

LINES = [
    "the cat sat on the mat",
    "that is the hat of the cat",
    "Deux hommes attendent l'été",
    "a mat, a hat",
] * 3


SIZES = {"bpe": 50, "unigram": 30}


@pytest.fixture(scope="module", params=SIZES)
def subwords(request):
    return Subwords.train(LINES, SIZES[request.param], request.param)


def test_training_gives_the_size_asked_for_and_every_line_comes_back(subwords):
    assert subwords.size in SIZES.values()
    for line in LINES:
        ids = subwords.encode(line)
        assert ids[-1] == EOS
        assert min(ids) >= EOS
        assert subwords.decode(ids) == line
        assert subwords.pieces(ids) == subwords.split(line)


@pytest.mark.parametrize("kind", SIZES)
def test_the_same_lines_give_the_same_bytes(kind):
    assert (
        Subwords.train(LINES, SIZES[kind], kind).model == Subwords.train(iter(LINES), SIZES[kind], kind).model
    )


def test_a_character_that_was_not_in_the_text_is_unknown(subwords):
    ids = subwords.encode("the 漢 cat")
    assert ids.count(UNK) == subwords.unknowns("the 漢 cat") == 1
    assert "<unk>" in subwords.decode(ids)
    assert "漢" in subwords.split("the 漢 cat")


def test_bytes_stand_in_for_unknown_characters_when_asked():
    subwords = Subwords.train(LINES, 320, bytes_for_unknown=True)
    line = "the 漢字 cat"
    assert subwords.unknowns(line) == 0
    assert subwords.decode(subwords.encode(line)) == line


def test_small_letters_are_made_before_training_and_before_encoding():
    subwords = Subwords.train(LINES, 50, lower=True)
    assert subwords.encode("THE CAT") == subwords.encode("the cat")
    assert subwords.decode(subwords.encode("Deux")) == "deux"


def test_the_text_of_a_shared_id_inside_a_line_is_no_shared_id(subwords):
    assert set(subwords.encode("the </s> cat")[:-1]).isdisjoint({0, 2, 3})


def test_a_line_longer_than_the_librarys_own_limit_is_learnt_from():
    assert Subwords.train(["ab " * 3000 + "xyz"], 10).unknowns("xyz") == 0


def test_json_files_and_pickle_keep_them(subwords, tmp_path):
    subwords.save(tmp_path / "m.model")
    copies = [
        load_segmenter(json.loads(json.dumps(subwords.state))),
        Subwords.load(tmp_path / "m.model"),
        pickle.loads(pickle.dumps(subwords)),
    ]
    for again in copies:
        assert again.fingerprint == subwords.fingerprint
        assert again.encode(LINES[0]) == subwords.encode(LINES[0])


def test_a_model_with_other_shared_ids_is_refused():
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES), model_writer=written, vocab_size=30, minloglevel=2
    )
    with pytest.raises(InvalidValueError, match=r"ids \(-1, 0, 1, 2\) .* expected \(0, 1, 2, 3\)"):
        Subwords(written.getvalue())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Subwords.train(LINES, 10_000), InvalidValueError, "10000 subwords are too many .* at most"),
        (
            lambda: Subwords.train(LINES, 10_000, "unigram"),
            InvalidValueError,
            "unigram finds at most [0-9]+ in",
        ),
        (
            lambda: Subwords.train(LINES, 12),
            InvalidValueError,
            "12 subwords are too few.* ask for [0-9]+ or more",
        ),
        (lambda: Subwords.train(LINES, 4), InvalidValueError, "size is 4"),
        (lambda: Subwords.train(LINES, 50, "wordpiece"), InvalidValueError, "kind is 'wordpiece'"),
        (lambda: Subwords.train(["", "  "], 50), InvalidValueError, "every line is empty"),
        (lambda: Subwords.train("a text", 50), InvalidTypeError, "lines is one text"),
        (lambda: Subwords.train(["a", 3], 50), InvalidTypeError, "line 2 is int"),
        (lambda: Subwords(b"no model"), InvalidValueError, "no model of sentencepiece"),
        (lambda: Subwords.load("no/such.model"), InvalidValueError, "no file"),
    ],
)
def test_bad_input_is_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_an_id_beyond_the_vocabulary_is_refused(subwords):
    with pytest.raises(InvalidValueError, match=f"id {subwords.size} is not"):
        subwords.decode([subwords.size])
    with pytest.raises(InvalidValueError, match="id 99 is not"):
        subwords.pieces([99])


def test_the_least_that_the_message_names_can_be_learnt():
    with pytest.raises(InvalidValueError) as caught:
        Subwords.train(LINES, 12)
    least = int(str(caught.value).partition("ask for ")[2].split()[0])
    assert Subwords.train(LINES, least).size == least


def test_the_most_that_the_message_names_can_be_learnt():
    with pytest.raises(InvalidValueError) as caught:
        Subwords.train(LINES, 10_000)
    most = int(str(caught.value).partition("at most ")[2].split()[0])
    assert Subwords.train(LINES, most).size == most
