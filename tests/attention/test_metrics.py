"""Scores equal sacrebleu's to the digit, their intervals are paired bootstraps, and lengths are cut where said."""

import math
import sys

import numpy as np
import pytest
import sacrebleu

from fingerpost.attention import (
    Bleu,
    Chrf,
    ExactMatch,
    Subwords,
    WordTokenizer,
    bleu,
    chrf,
    corpus_score,
    exact_match,
    perplexity,
    score_by_length,
)
from fingerpost.errors import InvalidTypeError, InvalidValueError, MissingExtraError, ShapeError

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "hat,",
    "sat",
    "on",
    "mat.",
    "Red",
    "blue",
    "man's",
    "woman",
    "walks",
    "3.5",
    "fast",
    "(well)",
    "été",
]


def corpus(seed, n=40, wrong=0.3):
    draw = np.random.default_rng(seed)
    references = [" ".join(draw.choice(WORDS, size=draw.integers(1, 15))) for _ in range(n)]
    hypotheses = [
        " ".join(
            draw.choice(WORDS) if draw.random() < wrong else word
            for word in line.split()[: draw.integers(1, 16)]
        )
        for line in references
    ]
    return hypotheses, references


CASES = [
    corpus(0),
    corpus(1, wrong=0.9),
    corpus(2, wrong=0.0),
    (["a"], ["a"]),
    (["", "a cat"], ["a", "cat a"]),
    (["x y z"], ["a b c d e"]),
    (["the cat sat on a mat"], ["the hat sat at a man"]),
    (["ab"], ["abcdefgh"]),
    (["abcdefgh"], ["ab"]),
    ([""], ["a"]),
]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tokenize", ["13a", "none", "intl", "char", "zh"])
@pytest.mark.parametrize("lowercase", [False, True])
def test_bleu_of_a_corpus_is_sacrebleus(case, tokenize, lowercase):
    hypotheses, references = case
    library = sacrebleu.metrics.BLEU(tokenize=tokenize, lowercase=lowercase, force=True)
    wanted = library.corpus_score(hypotheses, [references])
    found = bleu(hypotheses, references, tokenize=tokenize, lowercase=lowercase, resamples=0)
    assert found.score == pytest.approx(wanted.score, rel=1e-12, abs=1e-12)
    assert found.signature == f"BLEU|{library.get_signature()}"
    assert found.sentences == len(references)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("lowercase", [False, True])
def test_chrf_of_a_corpus_is_sacrebleus(case, lowercase):
    hypotheses, references = case
    library = sacrebleu.metrics.CHRF(lowercase=lowercase)
    wanted = library.corpus_score(hypotheses, [references])
    found = chrf(hypotheses, references, lowercase=lowercase, resamples=0)
    assert found.score == pytest.approx(wanted.score, rel=1e-12, abs=1e-12)
    assert found.signature == f"chrF2|{library.get_signature()}"


@pytest.mark.parametrize("metric", [Bleu(), Chrf(), ExactMatch()])
def test_a_resample_scores_as_the_sentences_drawn_would(metric):
    hypotheses, references = corpus(3)
    rows = np.random.default_rng(0).integers(0, 40, size=40)
    weights = np.bincount(rows, minlength=40)
    drawn = corpus_score([hypotheses[i] for i in rows], [references[i] for i in rows], metric, resamples=0)
    found = metric.score(weights @ metric.statistics(hypotheses, references))
    assert float(found) == pytest.approx(drawn.score, rel=1e-12)


def test_exact_match_counts_equal_lines_with_spaces_as_one():
    assert exact_match(["a  b", "A", "c", "d"], ["a b", "a", "c", "e"], resamples=0).score == 50
    assert (
        exact_match(["a  b", "A", "c", "d"], ["a b", "a", "c", "e"], resamples=0, lowercase=True).score == 75
    )


def test_the_bootstrap_interval_of_a_share_is_the_binomials():
    n, right = 400, 300
    found = exact_match(["a"] * n, ["a"] * right + ["b"] * (n - right), resamples=4000)
    half = 1.96 * math.sqrt(0.75 * 0.25 / n) * 100
    assert found.low == pytest.approx(75 - half, abs=0.5)
    assert found.high == pytest.approx(75 + half, abs=0.5)
    assert found.interval == (found.low, found.high)
    assert "|bs:4000|seed:0" in found.signature


def test_the_seed_alone_decides_the_interval():
    case = corpus(4)
    assert bleu(*case, seed=1, resamples=50) == bleu(*case, seed=1, resamples=50)
    assert bleu(*case, seed=1, resamples=50).low != bleu(*case, seed=2, resamples=50).low


def test_a_system_against_itself_differs_by_nothing_because_resamples_are_paired():
    hypotheses, references = corpus(5)
    found = corpus_score(hypotheses, references, against=list(hypotheses), resamples=100)
    assert (found.score, found.low, found.high) == (0, 0, 0)


def test_a_difference_is_that_of_the_scores_and_its_interval_narrower_than_unpaired_ones():
    hypotheses, references = corpus(6, n=200, wrong=0.4)
    other = [line if i % 4 else references[i] for i, line in enumerate(hypotheses)]
    first, second = bleu(other, references), bleu(hypotheses, references)
    found = corpus_score(other, references, against=hypotheses)
    assert found.score == pytest.approx(first.score - second.score, rel=1e-12)
    assert 0 < found.low < found.score < found.high
    unpaired = math.hypot(first.high - first.low, second.high - second.low)
    assert found.high - found.low < unpaired


@pytest.mark.parametrize("metric", ["bleu", "chrf", "exact"])
def test_buckets_hold_the_sentences_of_their_lengths_and_no_others(metric):
    hypotheses, references = corpus(7, n=120)
    lengths = [len(line.split()) for line in references]
    other = corpus(8, n=120)[0]
    buckets = score_by_length(
        hypotheses, references, lengths, metric, edges=(3, 7, 40), against=other, resamples=50
    )
    assert [bucket.label for bucket in buckets] == ["1–3", "4–7", "8–40"]
    assert sum(bucket.score.sentences for bucket in buckets) == 120
    for bucket in buckets:
        rows = [i for i, n in enumerate(lengths) if bucket.shortest <= n <= bucket.longest]
        part, wanted, rest = ([side[i] for i in rows] for side in (hypotheses, references, other))
        assert bucket.score == corpus_score(part, wanted, metric, resamples=50)
        assert bucket.difference == corpus_score(part, wanted, metric, against=rest, resamples=50)


def test_the_last_bucket_has_no_upper_end_and_differences_are_optional():
    (bucket,) = score_by_length(["a"], ["a"], [99], "exact", resamples=0)
    assert (bucket.label, bucket.longest, bucket.difference) == ("21+", None, None)


@pytest.mark.parametrize(
    ("module", "make"),
    [
        ("sacrebleu.metrics.bleu", Bleu),
        ("sacrebleu.metrics.chrf", Chrf),
        ("sacremoses", lambda: WordTokenizer("en")),
        ("sentencepiece", lambda: Subwords.train(["a text"], 9)),
    ],
)
def test_a_missing_extra_is_named_with_the_command_that_installs_it(monkeypatch, module, make):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fingerpost\[text\]'"):
        make()


def test_a_score_prints_its_interval_and_signature():
    text = str(bleu(*corpus(0), resamples=20))
    assert "[" in text
    assert "40 sentences" in text
    assert "tok:13a" in text


def test_perplexity_of_even_odds_is_their_number_and_infinite_where_it_overflows():
    assert perplexity(30 * math.log(7), 30) == pytest.approx(7, rel=1e-14)
    assert perplexity(1e6, 1) == math.inf


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: bleu(["a"], ["a", "b"]), ShapeError, "hypotheses has 1 sentences and references 2"),
        (lambda: corpus_score(["a"], ["a"], against=[]), ShapeError, "against has 0 sentences"),
        (lambda: bleu([], []), InvalidValueError, "at least one sentence"),
        (lambda: bleu("a", ["a"]), InvalidTypeError, "hypotheses must be a list"),
        (lambda: bleu(["a"], [["a"]]), InvalidTypeError, "references must be a list"),
        (lambda: bleu(["a"], ["a"], tokenize="13"), InvalidValueError, "did you mean '13a'"),
        (lambda: bleu(["a"], ["a"], tokenize="spm"), InvalidValueError, "which need no other file"),
        (lambda: corpus_score(["a"], ["a"], "ble"), InvalidValueError, "did you mean 'bleu'"),
        (lambda: corpus_score(["a"], ["a"], resamples=-1), InvalidValueError, "resamples is -1"),
        (lambda: corpus_score(["a"], ["a"], level=1.0), InvalidValueError, "level 1.0"),
        (lambda: score_by_length(["a"], ["a"], [1, 2]), ShapeError, r"lengths has shape \(2,\)"),
        (lambda: score_by_length(["a"], ["a"], [0]), InvalidValueError, "lengths has 0"),
        (lambda: score_by_length(["a"], ["a"], [1], edges=(5, 5)), InvalidValueError, r"edges is \(5, 5\)"),
        (lambda: perplexity(1.0, 0), InvalidValueError, "count is 0"),
    ],
)
def test_bad_input_is_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()
