"""The paper's word vocabulary and the segmenters of whole words: ids, their order, round trips, what is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fingerpost.attention import (
    BOS,
    EOS,
    PAD,
    UNK,
    SpaceTokenizer,
    Vocabulary,
    WordSegmenter,
    WordTokenizer,
    check_fingerprint,
    load_segmenter,
)
from fingerpost.errors import InvalidTypeError, InvalidValueError

SENTENCES = [["b", "a", "c"], ["a", "c", "d"], ["a"]]


def test_words_are_ranked_by_count_and_then_alphabetically_after_the_four_shared_ids():
    vocabulary = Vocabulary.build(SENTENCES)
    assert vocabulary.words == ("a", "c", "b", "d")
    assert vocabulary.encode(["a", "c", "b", "d"]) == [4, 5, 6, 7, EOS]
    assert len(vocabulary) == vocabulary.size == 8


def test_size_and_minimum_leave_out_the_rare_words():
    assert Vocabulary.build(SENTENCES, size=3).words == ("a", "c", "b")
    assert Vocabulary.build(SENTENCES, minimum=2).words == ("a", "c")


def test_a_word_without_an_id_is_unknown_and_counted_in_the_rate():
    vocabulary = Vocabulary.build(SENTENCES, size=2)
    assert vocabulary.encode(["a", "z", "b"]) == [4, UNK, UNK, EOS]
    assert vocabulary.unknown_rate(SENTENCES) == pytest.approx(2 / 7)


def test_decoding_ends_at_the_end_and_leaves_out_padding_and_beginning():
    vocabulary = Vocabulary.build(SENTENCES)
    assert vocabulary.decode([BOS, 4, UNK, PAD, 5, EOS, 6]) == ["a", "<unk>", "c"]


@given(st.lists(st.lists(st.text(min_size=1), min_size=1), min_size=1))
def test_every_sentence_that_it_was_built_from_comes_back(sentences):
    vocabulary = Vocabulary.build(sentences)
    assert vocabulary.unknown_rate(sentences) == 0
    for words in sentences:
        assert vocabulary.decode(vocabulary.encode(words)) == words


def test_words_that_look_like_the_shared_ids_have_ids_of_their_own():
    vocabulary = Vocabulary.build([["<unk>", "</s>"]])
    assert vocabulary.encode(["<unk>", "</s>"]) == [5, 4, EOS]


def test_a_saved_vocabulary_is_the_same_with_the_same_fingerprint(tmp_path):
    vocabulary = Vocabulary.build([["été", "漢字", "a"]])
    vocabulary.save(tmp_path / "v.json")
    again = Vocabulary.load(tmp_path / "v.json")
    assert again == vocabulary
    assert again.fingerprint == vocabulary.fingerprint != Vocabulary.build(SENTENCES).fingerprint


def test_the_order_of_words_is_part_of_the_fingerprint():
    assert Vocabulary(["a", "b"]).fingerprint != Vocabulary(["b", "a"]).fingerprint


def test_a_vocabulary_from_another_run_is_refused_with_both_fingerprints():
    one, other = Vocabulary(["a"]).fingerprint, Vocabulary(["b"]).fingerprint
    check_fingerprint("source", one, one)
    with pytest.raises(
        InvalidValueError, match=f"source vocabulary is from another run.*{one[:12]}.*{other[:12]}"
    ):
        check_fingerprint("source", one, other)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Vocabulary(["a", "b", "a"]), InvalidValueError, "'a' twice"),
        (lambda: Vocabulary(["a", ""]), InvalidValueError, "word 1 of a vocabulary is empty"),
        (lambda: Vocabulary([1]), InvalidTypeError, "word 0 of a vocabulary is int"),
        (lambda: Vocabulary.build(["a text"]), InvalidTypeError, "sentence 1 is a text"),
        (lambda: Vocabulary.build([]), InvalidValueError, "0 different words"),
        (lambda: Vocabulary.build(SENTENCES, minimum=9), InvalidValueError, "9 times or more"),
        (lambda: Vocabulary.build(SENTENCES, size=0), InvalidValueError, "size is 0"),
        (lambda: Vocabulary(["a"]).decode([5]), InvalidValueError, "id 5 is not .* 0 to 4"),
        (lambda: Vocabulary(["a"]).decode([-1]), InvalidValueError, "id -1 is not"),
        (lambda: Vocabulary(["a"]).unknown_rate([]), InvalidValueError, "at least one word"),
        (lambda: Vocabulary.load("no/such.json"), InvalidValueError, "no file 'no/such.json'"),
        (lambda: Vocabulary.from_state({"kind": "words"}), InvalidValueError, "no vocabulary's state"),
        (lambda: WordTokenizer("xx"), InvalidValueError, "language is 'xx'"),
        (lambda: WordSegmenter.train("a text"), InvalidTypeError, "lines is one text"),
        (lambda: WordSegmenter.train(["a", None]), InvalidTypeError, "line 2 is NoneType"),
        (lambda: load_segmenter({"kind": "letters"}), InvalidValueError, "'letters'"),
        (lambda: load_segmenter({"kind": "words"}), InvalidValueError, "lacks 'vocabulary'"),
    ],
)
def test_bad_input_is_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_file_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "v.json").write_bytes(b"\xff\x00")
    with pytest.raises(InvalidValueError, match="no JSON in UTF-8"):
        Vocabulary.load(tmp_path / "v.json")


@pytest.mark.parametrize(
    ("language", "line", "words"),
    [
        (
            "en",
            'Mr. Smith\'s dog, "Rex", barks.',
            ["Mr.", "Smith", "'s", "dog", ",", '"', "Rex", '"', ",", "barks", "."],
        ),
        ("fr", "C'est l'été & l'eau.", ["C'", "est", "l'", "été", "&", "l'", "eau", "."]),
        ("de", "Ein Mann, der z.B. läuft.", ["Ein", "Mann", ",", "der", "z.B.", "läuft", "."]),
    ],
)
def test_words_and_punctuation_part_and_join_again(language, line, words):
    tokenizer = WordTokenizer(language)
    assert tokenizer.tokenize(line) == words
    assert tokenizer.detokenize(words) == line


def test_small_letters_come_after_the_rules_that_read_capitals():
    assert WordTokenizer("en", lower=True).tokenize("Mr. Smith") == ["mr.", "smith"]


@pytest.mark.parametrize("tokenizer", [SpaceTokenizer(lower=True), WordTokenizer("fr", lower=True)])
def test_a_word_segmenter_survives_json(tokenizer):
    lines = ["L'homme attend, seul.", "Un chat dort."]
    segmenter = WordSegmenter.train(lines, tokenizer=tokenizer)
    again = load_segmenter(json.loads(json.dumps(segmenter.state)))
    assert again.fingerprint == segmenter.fingerprint
    assert again.size == segmenter.size
    for line in lines:
        ids = segmenter.encode(line)
        assert again.encode(line) == ids
        assert again.decode(ids) == line.lower()
        assert segmenter.pieces(ids) == segmenter.split(line)


def test_the_tokenizer_is_part_of_a_segmenters_fingerprint():
    vocabulary = Vocabulary(["a"])
    assert (
        WordSegmenter(vocabulary).fingerprint != WordSegmenter(vocabulary, SpaceTokenizer(True)).fingerprint
    )


def test_unknown_words_of_a_line_are_counted():
    segmenter = WordSegmenter.train(["a red hat"])
    assert segmenter.unknowns("a blue blue hat") == 2
    assert segmenter.split("a blue hat") == ["a", "blue", "hat"]
