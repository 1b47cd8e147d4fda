"""attention-numbers in small: words of numbers, what is drawn, claims that can fail, how attention reads, resuming."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from fingerpost import attention
from fingerpost.errors import ConfigError, MissingExtraError
from fingerpost.experiments import _attention_numbers_claims as claims
from fingerpost.experiments import _attention_numbers_fits as fits
from fingerpost.experiments import _attention_numbers_results as results
from fingerpost.experiments import _attention_numbers_text as texts
from fingerpost.experiments import _translation as translation
from fingerpost.experiments import attention_numbers as module
from fingerpost.experiments._translation_scores import Scores, buckets
from fingerpost.lab import RunFolder

from experiments.carrying import carry_out, results_of  # isort: skip

TINY = {
    "digits": 4, "longest": 5, "examples": 300, "tests": 30, "held": 20, "seeds": 1, "embedding": 12, "hidden": 16, "epochs": 6,
    "batch_size": 16, "rate": 0.01,
}  # fmt: skip


def tiny(**changes):
    return dataclasses.replace(module.PRESETS["quick"], **{**TINY, **changes})


@pytest.fixture(scope="module")
def text():
    return texts.text_of(tiny())


# words of numbers


@pytest.mark.parametrize(
    ("code", "number", "said"),
    [
        ("en", 1_345, "one thousand three hundred and forty five"),
        ("de", 21, "ein und zwanzig"),
        ("de", 116, "ein hundert sechzehn"),
        ("de", 888_317, "acht hundert acht und achtzig tausend drei hundert siebzehn"),
        ("de", 2_000_066, "zwei millionen sechs und sechzig"),
        ("nl", 122, "honderd twee ën twintig"),
        ("da", 343, "tre hundrede og tre og fyrre"),
        ("fr", 92, "quatre vingt douze"),
    ],
)
def test_long_words_are_cut_into_the_names_of_small_numbers(code, number, said):
    assert " ".join(texts.Language(code).words(number)) == said


@pytest.mark.parametrize(("code", "most"), [("de", 48), ("nl", 48), ("da", 48), ("en", 36)])
def test_a_language_has_few_words_and_no_two_numbers_have_the_same(code, most):
    said = texts.Language(code)
    numbers = [*range(1_000), *np.random.default_rng(0).integers(10**9, size=500).tolist()]
    names = {said.words(number): number for number in numbers}
    assert len(names) == len(set(numbers))
    assert len({word for name in names for word in name}) <= most


@pytest.mark.parametrize(
    ("code", "first"), [("de", True), ("nl", True), ("ar", True), ("en", False), ("fr", False), ("fi", None)]
)
def test_languages_are_known_by_the_order_of_units_and_tens(code, first):
    assert texts.Language(code).units_first is first


def test_units_and_tens_are_found_in_each_part_of_a_number():
    english, german = texts.Language("en"), texts.Language("de")
    number = 345_020_999
    words = english.words(number), german.words(number)
    pairs = english.twos(words[0]), german.twos(words[1])
    assert [[words[0][k] for k in pair] for pair in pairs[0]] == [["five", "forty"], ["nine", "ninety"]]
    assert [[words[1][k] for k in pair] for pair in pairs[1]] == [["fünf", "vierzig"], ["neun", "neunzig"]]
    assert german.twos(german.words(116_000)) == english.twos(english.words(20_003)) == []


# what is drawn


def test_no_number_is_in_two_parts_and_long_ones_are_tested_alone(text):
    config = tiny()
    parts = [set(part.numbers) for part in text]
    assert [len(part) for part in parts] == [len(part.numbers) for part in text]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]
    assert max(text.train.lengths) == max(text.held.lengths) == config.longest
    assert max(text.test.lengths) == len(texts.language("en").words(9_999))
    assert len(text.train.numbers) <= config.examples
    assert Counter(text.test.lengths)[7] == config.tests
    for part in text:
        for k in (0, -1):
            assert part.source[k].split() == list(texts.language("en").words(part.numbers[k]))
            assert part.target[k].split() == list(texts.language("de").words(part.numbers[k]))


def test_lengths_are_as_frequent_as_each_other_where_there_are_enough_numbers():
    drawn = texts.text_of(tiny(digits=9, longest=8, examples=800))
    counts = Counter(drawn.train.lengths)
    assert all(counts[length] >= 90 for length in range(4, 9))
    assert counts[1] < 30


def test_the_draw_alone_says_which_numbers(text):
    assert texts.text_of(tiny(seed=5)) == text
    assert texts.text_of(tiny(draw=5)) != text


def test_a_language_whose_words_are_never_the_same_is_refused_before_training(tmp_path):
    with pytest.raises(ConfigError, match=r"target_language: '.*' has words that were not in .* pairs"):
        carry_out("attention-numbers", tmp_path / "run", **{**TINY, "target_language": "tr"})
    assert not (tmp_path / "run" / "checkpoint").exists()


# a run


def test_a_run_leaves_tables_pictures_claims_and_translators(tmp_path):
    folder = carry_out("attention-numbers", tmp_path / "run", **{**TINY, "seeds": 2})
    found = {claim.name: claim for claim in folder.claims()}
    assert set(found) == {
        "solved", "holds", "holds-beyond", "right-far", "backwards", "onwards",
        *(f"{name}-{kind}" for name in ("above", "beyond", "falls", "length") for kind in ("fixed", "encdec")),
    }  # fmt: skip
    assert found["above-encdec"].holds
    contents = json.loads((folder.directory / "contents.json").read_text())
    assert {"scores", "errors", "reading", "trainings", "examples", "right", "bleu", "maps"} <= {
        row["name"] for row in contents
    }
    errors = (folder.directory / "tables" / "errors.csv").read_text().splitlines()[1:]
    for row in errors:
        assert sum(map(float, row.split(",")[-4:])) == pytest.approx(100)
    translator = attention.Translator.load(folder.directory / "search-0")
    (said,) = translator.translate(["forty"], width=1)
    assert said.target_words[-1] == "</s>"


def test_languages_in_the_same_order_claim_nothing_of_order(tmp_path):
    folder = carry_out(
        "attention-numbers", tmp_path / "run",
        **{**TINY, "target_language": "id", "digits": 3, "longest": 5, "epochs": 1, "examples": 300},
    )  # fmt: skip
    names = {claim.name for claim in folder.claims()}
    assert not names & {"backwards", "onwards"}
    assert "Not claimed: order" in (folder.directory / "contents.json").read_text()


def weights(folder):
    return {path.parent.name: path.read_bytes() for path in Path(folder).glob("*/translator.safetensors")}


def test_a_killed_training_resumes_to_the_same_weights_and_results(tmp_path, monkeypatch):
    asked = {**TINY, "epochs": 1}
    carry_out("attention-numbers", tmp_path / "never", **asked)
    monkeypatch.setattr(translation, "train", partial(translation.train, checkpoint_seconds=0))
    whole, calls = translation.attention.AbstractEncoderDecoder.loss, []

    def stopping(model, *parts):
        calls.append(1)
        if len(calls) in (12, 40):
            raise KeyboardInterrupt
        return whole(model, *parts)

    monkeypatch.setattr(translation.attention.AbstractEncoderDecoder, "loss", stopping)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            carry_out("attention-numbers", tmp_path / "killed", **asked)
    carry_out("attention-numbers", tmp_path / "killed", **asked)
    assert weights(tmp_path / "killed") == weights(tmp_path / "never")
    ours, theirs = results_of(tmp_path / "killed"), results_of(tmp_path / "never")
    timed = {
        Path("tables/trainings.csv"),
        *(Path(f"stages/{kind}-0.json") for kind in translation.MODELS),
    }
    assert set(ours) == set(theirs)
    assert [name for name in ours if ours[name] != theirs[name] and name not in timed] == []


def test_seeds_that_were_trained_apart_are_shown_together(tmp_path):
    asked = {**TINY, "epochs": 1}
    for seed in (0, 1):
        carry_out("attention-numbers", tmp_path / f"{seed}", **asked, seed=seed)
    reuse = f"{tmp_path / '0'},{tmp_path / '1'}"
    carry_out("attention-numbers", tmp_path / "all", **{**asked, "seeds": 2, "reuse": reuse})
    assert weights(tmp_path / "all") == weights(tmp_path / "0") | weights(tmp_path / "1")
    assert not [row for row in RunFolder(tmp_path / "all").metrics() if row["stage"] == "search-0"]


# claims


def judged(longest=8, **outputs):
    """What is judged of outputs that somebody else made: 240 sentences of 1 to 12 words."""
    draw = np.random.default_rng(0)
    references = [" ".join(f"w{k}" for k in draw.integers(20, size=1 + place % 12)) for place in range(240)]
    lengths = [len(line.split()) for line in references]
    made = {
        kind: [[cut(line.split(), k) for k, line in enumerate(references)]] for kind, cut in outputs.items()
    }
    right, bleu = (
        {kind: Scores(rows, references, metric) for kind, rows in made.items()}
        for metric in (attention.ExactMatch(), attention.Bleu(tokenize="none"))
    )
    return results.Judged(
        "a → b", 1, right, bleu, lengths, buckets(lengths, results.edges_of(longest, 12)), longest
    )


def whole(words, _):
    return " ".join(words)


def short_only(words, k):
    """All right up to four words; after them only the first ones."""
    return " ".join(words[:4]) if len(words) > 4 and k % 9 else " ".join(words)


def trained_only(words, k):
    """All right up to eight words."""
    return " ".join(words if len(words) <= 8 else ["no", *words[1:]])


def claimed(**outputs):
    found = judged(**outputs)
    rows = [*claims.of_trained(found), *claims.of_fall(found), *claims.of_gaps(found)]
    return {claim.name: claim.holds for claim in (*rows, *claims.of_beyond(found))}


def test_claims_hold_for_attention_that_holds_up_beside_one_that_does_not():
    assert all(claimed(search=whole, fixed=short_only).values())


def test_claims_fail_where_attention_is_the_one_that_falls():
    found = claimed(search=short_only, fixed=whole)
    assert set(found) == {
        "solved", "holds", "falls-fixed", "length-fixed", "above-fixed", "beyond-fixed", "holds-beyond", "right-far"
    }  # fmt: skip
    assert not any(found.values())


def test_attention_that_fails_beyond_trained_lengths_is_shown_to():
    found = claimed(search=trained_only, fixed=trained_only)
    assert found["solved"]
    assert found["holds"]
    assert not any(
        found[name]
        for name in (
            "holds-beyond",
            "right-far",
            "above-fixed",
            "beyond-fixed",
            "falls-fixed",
            "length-fixed",
        )
    )


def test_a_little_longer_numbers_are_told_from_the_longest():
    found = {claim.name: claim.holds for claim in claims.of_beyond(judged(4, search=trained_only))}
    assert found == {"holds-beyond": False, "right-near": True, "right-far": False}


def test_where_attention_fails_is_said_by_length():
    said = {}

    class Page:
        def text(self, title, paragraph):
            said[title] = paragraph

    results.failing(judged(search=trained_only), Page())
    assert "9–12 words by 100.0 points" in said["Where attention fails"]
    results.failing(judged(search=whole), Page())
    assert "At no length" in said["Where attention fails"]


def test_order_is_claimed_backwards_at_tens_and_onwards_elsewhere():
    found = judged(search=whole)
    forth, back = ([0.8, 0.9, 0.7], [-0.5, -0.6, -0.4])
    means = [results.mean_of(np.array([row]), np.ones(3, dtype=bool)) for row in (back, forth)]
    assert [claim.holds for claim in claims.of_order(found, *means)] == [True, True]
    assert [claim.holds for claim in claims.of_order(found, *means[::-1])] == [False, False]
    nothing = results.mean_of(np.full((1, 3), np.nan), np.ones(3, dtype=bool))
    assert [claim.holds for claim in claims.of_order(found, nothing, nothing)] == [False, False]


@pytest.mark.parametrize(
    ("longest", "most", "edges"),
    [(16, 29, (4, 8, 12, 16, 20, 24, 28, 29)), (10, 14, (4, 8, 10, 14)), (5, 5, (4, 5))],
)
def test_ranges_of_lengths_end_where_training_ended(longest, most, edges):
    assert results.edges_of(longest, most) == edges


# how attention reads


def reading_matrix(source, target, columns):
    matrix = torch.full((len(target) + 1, len(source) + 1), 0.0, dtype=torch.float64)
    for row, column in enumerate(columns):
        matrix[row, column] = 1
    return matrix


def test_a_true_alignment_reads_tens_backwards_and_the_rest_onwards():
    source = ["three", "hundred", "and", "forty", "five", "thousand", "two"]
    target = ["drei", "hundert", "fünf", "und", "vierzig", "tausend", "zwei"]
    matrix = reading_matrix(source, target, [0, 1, 4, 2, 3, 5, 6, 7])
    found = fits.read_at_tens(matrix, source, target, tiny())
    assert found["tens_order"] == -1
    assert found["rest_order"] == 1
    assert found["tens_weight"] == 1
    assert found["tens_entropy"] == found["rest_entropy"] == 0
    straight = fits.read_at_tens(reading_matrix(source, target, range(8)), source, target, tiny())
    assert straight["tens_order"] == 1
    assert straight["tens_weight"] == 0


def test_only_right_outputs_are_read_at_their_tens():
    source, target = "forty five", "fünf und vierzig"
    matrix = reading_matrix(source.split(), target.split(), [1, 0, 0, 2])
    rows = tuple(source.split()) + ("</s>",), tuple(target.split()) + ("</s>",)
    one = attention.Translation(target, 0.0, matrix.float(), *rows, True)
    cut = one._replace(complete=False)
    empty = attention.Translation("", -np.inf, None, rows[0], (), False)
    part = texts.Part([45] * 4, [source] * 4, [target, "fünf und fünfzig", target, target])
    found = fits.reading([one, one, cut, empty], tiny(), part)
    assert found["tens_order"] == [-1.0, None, None, None]
    assert found["order"][3] is None
    assert found["order"][0] == found["order"][1] != 0


def test_maps_show_right_outputs_and_a_wrong_one_by_rule():
    config, numbers = tiny(), [45, 1_345, 8_921, 45]
    said = {code: [" ".join(texts.language(code).words(n)) for n in numbers] for code in ("en", "de")}
    part = texts.Part(numbers, said["en"], [*said["de"][:3], "fünf und fünfzig"])

    def output(k):
        words = [tuple(said[code][k].split()) + ("</s>",) for code in ("en", "de")]
        weights = torch.full((len(words[1]), len(words[0])), 1 / len(words[0]))
        return attention.Translation(said["de"][k], 0.0, weights, *words, True)

    drawn = fits.maps([output(k) for k in range(4)], config, part)
    assert [(one["place"], one["right"]) for one in drawn] == [(0, True), (1, True), (3, False)]
    assert results._departs(["fünf", "und", "vierzig", "</s>"], ["fünf", "und", "fünfzig"]) == 2
    assert results._departs(["fünf", "</s>"], ["fünf", "und"]) == 1
    assert results._departs(["fünf"], ["fünf", "und"]) == 0


# refusals


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"source_language": "english"}, r"no language 'english'.*it has "),
        ({"target_language": "en"}, "both 'en'"),
        ({"target_language": "te", "digits": 15}, r"can't say 9+ in 'te'.*fewer digits"),
        ({"digits": 0}, "digits is 0"),
        ({"longest": 4}, "at least 5 words"),
        ({"examples": 2}, "at least 5 words, and as many pairs"),
        ({"seeds": 0}, "seeds is 0"),
        ({"tests": 0}, "tests is 0"),
        ({"draw": -1}, "draw is -1"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"hidden": 0}, "hidden is 0"),
        ({"rate": 0.0}, "rate is 0.0"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        module.check(tiny(**changes))


def test_without_num2words_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "num2words", None)
    texts.language.cache_clear()
    with pytest.raises(
        MissingExtraError, match=r"num2words is needed for the words of numbers.*fingerpost\[text\]"
    ):
        module.check(tiny())
