"""attention-length in small: numbers and a user's text end to end, joined pairs, claims that can fail, resuming, refusals."""

from __future__ import annotations

import dataclasses
import gzip
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from fingerpost import attention
from fingerpost.attention import ParallelText
from fingerpost.errors import ConfigError
from fingerpost.experiments import _attention_length_claims as claims
from fingerpost.experiments import _attention_length_fits as fits
from fingerpost.experiments import _attention_length_results as results
from fingerpost.experiments import _attention_length_text as texts
from fingerpost.experiments import _translation as translation
from fingerpost.experiments import attention_length as module
from fingerpost.experiments._translation_scores import Scores
from fingerpost.lab import Run

from experiments.carrying import carry_out, results_of  # isort: skip

MULTI30K = Path(__file__).resolve().parents[3] / "shared" / "data" / "multi30k"
TINY = {
    "numbers": 299, "trained": 2, "longest": 3, "examples": 0, "tests": 60, "held": 10, "embedding": 12, "hidden": 12,
    "epochs": 1, "batch_size": 32, "beam": 2, "models": ("search", "encdec"),
}  # fmt: skip
NAMES = {
    "within-2", "joined-2", "falls-encdec", "keeps-encdec", "above-encdec", "beyond-3", "beyond-above-encdec",
    "beyond-keeps-encdec", "parts-3",
}  # fmt: skip
BLEU = {"tokenize": "none"}


def tiny(**changes):
    return dataclasses.replace(module.PRESETS["quick"], **{**TINY, **changes})


@pytest.fixture
def own(tmp_path):
    """Two files of a made-up language, the second gzipped."""
    draw = np.random.default_rng(0)
    rows = [draw.integers(20, size=draw.integers(2, 5)) for _ in range(700)]
    files = tmp_path / "own.aa", tmp_path / "own.bb.gz"
    files[0].write_text("".join(" ".join(f"wa{k}" for k in row) + " .\n" for row in rows))
    files[1].write_bytes(
        gzip.compress("".join(" ".join(f"bo{k}" for k in row) + " .\n" for row in rows).encode())
    )
    return {"source_file": str(files[0]), "target_file": str(files[1])}


def weights(folder):
    return {path.parent.name: path.read_bytes() for path in Path(folder).glob("*/translator.safetensors")}


# whole runs


def test_numbers_give_every_claim_table_and_picture_and_the_translations_of_every_length(tmp_path):
    folder = carry_out("attention-length", tmp_path / "run", **TINY, seeds=2)
    assert {claim.name for claim in folder.claims()} == NAMES
    shown = {row["name"] for row in json.loads((folder.directory / "contents.json").read_text())}
    assert {
        "The text", "Where it holds", "lengths", "gaps", "failures", "positions", "searches", "where", "maps", "trainings",
        "learning", "examples",
    } <= shown  # fmt: skip
    lines = {
        path.stem: path.read_text().splitlines() for path in (folder.directory / "predictions").iterdir()
    }
    assert set(lines) == {
        f"{count}-{name}"
        for count in (1, 2, 3)
        for name in ("source", "reference", "search-0", "search-1", "encdec-0", "encdec-1")
    }
    assert [len(lines[f"{count}-source"]) for count in (1, 2, 3)] == [60, 30, 20]
    translator = attention.Translator.load(folder.directory / "search-1")
    again = translator.translate(lines["3-source"][:4], width=2)
    assert [one.text for one in again] == lines["3-search-1"][:4]


def test_a_users_files_are_joined_and_without_longer_tests_nothing_is_claimed_beyond(tmp_path, own):
    asked = {**TINY, **own, "source_language": "none", "target_language": "none", "longest": 2, "tests": 60}
    folder = carry_out("attention-length", tmp_path / "run", **asked)
    assert {claim.name for claim in folder.claims()} == {
        "within-2", "joined-2", "falls-encdec", "keeps-encdec", "above-encdec"
    }  # fmt: skip
    source = (folder.directory / "predictions" / "2-source.txt").read_text().splitlines()
    pairs = dict(ParallelText.read(*own.values()))
    wanted = [
        " ".join(pairs[part.strip() + " ."] for part in line.split(".") if part.strip()) for line in source
    ]
    assert (folder.directory / "predictions" / "2-reference.txt").read_text().splitlines() == wanted


def test_with_attention_alone_only_attention_is_claimed(tmp_path):
    folder = carry_out("attention-length", tmp_path / "run", **{**TINY, "models": ("search",)})
    assert {claim.name for claim in folder.claims()} == {"within-2", "joined-2", "beyond-3", "parts-3"}


def test_subwords_are_joined_and_scored_by_their_words(tmp_path, own):
    asked = {**TINY, **own, "segmentation": "bpe", "vocabulary": 30, "models": ("search",)}
    folder = carry_out("attention-length", tmp_path / "run", **asked)
    kept = json.loads((folder.directory / "stages" / "test-search-0-2.json").read_text())["result"]
    assert not any("▁" in line for line in kept["words"])
    assert all(row is None or len(row) == 2 for row in kept["received"])
    assert any(row is not None for row in kept["received"])


def test_a_killed_training_resumes_to_the_same_weights_and_translations(tmp_path, monkeypatch):
    carry_out("attention-length", tmp_path / "never", **TINY)
    monkeypatch.setattr(translation, "train", partial(translation.train, checkpoint_seconds=0))
    whole, calls = translation.attention.AbstractEncoderDecoder.loss, []

    def stopping(model, *parts):
        calls.append(1)
        if len(calls) in (7, 18):
            raise KeyboardInterrupt
        return whole(model, *parts)

    monkeypatch.setattr(translation.attention.AbstractEncoderDecoder, "loss", stopping)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            carry_out("attention-length", tmp_path / "killed", **TINY)
    carry_out("attention-length", tmp_path / "killed", **TINY)
    assert weights(tmp_path / "killed") == weights(tmp_path / "never")
    ours, theirs = results_of(tmp_path / "killed"), results_of(tmp_path / "never")
    timed = {Path("tables/trainings.csv"), *map(Path, ("stages/search-0.json", "stages/encdec-0.json"))}
    assert set(ours) == set(theirs)
    assert [name for name in ours if ours[name] != theirs[name] and name not in timed] == []


def test_seeds_that_were_trained_apart_are_shown_together(tmp_path):
    for seed in (0, 1):
        carry_out("attention-length", tmp_path / f"{seed}", **TINY, seed=seed)
    reuse = f"{tmp_path / '0'},{tmp_path / '1'}"
    carry_out("attention-length", tmp_path / "all", **TINY, seeds=2, reuse=reuse)
    assert weights(tmp_path / "all") == weights(tmp_path / "0") | weights(tmp_path / "1")


# the text


def prepared(tmp_path, **changes):
    config = tiny(**changes)
    run = Run.open(tmp_path / "text", experiment="attention-length", config=dataclasses.asdict(config))
    try:
        return config, texts.prepare(config, run)
    finally:
        run.close(None)


def test_test_pairs_are_joined_as_the_text_joins_them_each_once_at_each_length(tmp_path):
    config, side = prepared(tmp_path, draw=3)
    for count, places in enumerate(side.places, 1):
        text = side.text.test.joined(count, seed=config.draw)
        assert side.joined(side.text.test.source, count) == list(text.source)
        assert side.joined(side.references, count) == list(text.target)
        assert sorted(places.ravel()) == list(range(60))


def test_training_has_every_pair_once_at_each_length_and_none_that_is_tested(tmp_path):
    _, side = prepared(tmp_path, numbers=199)
    train = side.text.corpus.train
    parts = [part for line in train.source for part in fits.cut(line)]
    counts = np.unique(parts, return_counts=True)[1]
    assert set(counts) == {2}
    assert max(len(fits.cut(line)) for line in train.source) == 2
    assert len(train) == 130 + 65
    assert not set(parts) & set(side.text.test.source)
    assert all(len(fits.cut(a)) == len(fits.cut(b)) for a, b in train)


def test_numbers_are_words_with_spaces_between_them():
    assert (
        texts.spelt("six thousand, three hundred and forty-two")
        == "six thousand three hundred and forty two ."
    )
    config = tiny(numbers=99, tests=60, held=3)
    pairs = dict(pair for part in texts.numbers(config)[:3] for pair in part)
    assert len(pairs) == 100
    assert pairs["ninety two ."] == "quatre vingt douze ."


def test_empty_translations_leave_nothing_where_parts_are_joined():
    assert texts.joined(["a", "", "b"], [[0, 1], [1, 2], [2, 0]]) == ["a", "b", "b a"]


def test_a_run_does_not_go_on_with_another_text(tmp_path, own):
    prepared(tmp_path, **own)
    file = Path(own["source_file"])
    file.write_text(file.read_text().replace("wa1 ", "wa2 ", 1))
    with pytest.raises(ConfigError, match="has changed since the run began"):
        prepared(tmp_path, **own)


# scores of the same pairs, joined and alone


def pairs_of(number=60, seed=0):
    draw = np.random.default_rng(seed)
    return [" ".join(f"w{k}" for k in draw.integers(50, size=6)) + " ." for _ in range(number)]


def spoilt(line, every):
    """One word in so many is wrong; which, and how many, the line decides."""
    words = line.split()
    start = sum(map(ord, line))
    return " ".join("no" if (start + k) % every == 0 else word for k, word in enumerate(words))


def test_grouped_scores_are_those_of_the_same_sentences_and_are_drawn_by_group():
    references = pairs_of()
    outputs = [[spoilt(line, 3 + k) for line in references] for k in (1, 2)]
    single = Scores(outputs, references, attention.Bleu(**BLEU))
    places = texts.places_of(60, 3, 0)
    grouped = single.grouped(places)
    assert grouped.score().mean == pytest.approx(single.score().mean, rel=1e-12)
    assert grouped.of_each() == pytest.approx(single.of_each(), rel=1e-12)
    assert grouped.statistics.shape[1] == 20
    assert single.statistics.shape[1] == 60


def test_losses_are_of_the_same_draws_and_those_of_two_models_are_taken_from_each_other():
    references = pairs_of()
    places = texts.places_of(60, 2, 0)
    metric = attention.Bleu(**BLEU)
    together = texts.joined(references, places)
    alone = Scores([[spoilt(line, 4) for line in references]], references, metric).grouped(places)
    worse = Scores([[spoilt(line, 3) for line in together]], together, metric)
    same = Scores([texts.joined([spoilt(line, 4) for line in references], places)], together, metric)
    lost = worse.loss(alone)
    assert lost.mean == pytest.approx(alone.score().mean - worse.score().mean)
    assert lost.low < lost.mean < lost.high
    assert worse.loss(alone, (worse, alone)) == (0, 0, 0)
    assert worse.loss(alone, (same, alone)).mean == pytest.approx(lost.mean - same.loss(alone).mean)
    assert worse.share(alone).mean == pytest.approx(100 * worse.score().mean / alone.score().mean)
    assert same.share(alone, (worse, alone)).mean > 0
    # other draws of the two would leave a spread
    assert alone.loss(alone) == (0, 0, 0)


# claims


def judged(kinds, trained_to=3):
    """What is judged of made-up translations: by model, a function of the words of a joined sentence and its parts."""
    references = pairs_of(240)
    places = [texts.places_of(240, count, 0) for count in range(1, 7)]
    text = ParallelText(references, references)
    words = attention.SpaceTokenizer()
    corpus = translation.Corpus(text, text, None, None)
    side = texts.Side(texts.own.Direction("", "a → b", corpus, text, words, words), places)
    tested = {
        kind: [
            [{"words": [make(fits.cut(line)) for line in side.joined(references, count)]} for count in range(1, 7)]
        ]
        for kind, make in kinds.items()
    }  # fmt: skip
    return results.judge(side, fits.Found({}, tested))


def upto(count):
    """Translates well, and stops after so many sentences."""
    return lambda parts: " ".join(parts[:count])


def fading(parts):
    """The more parts, the worse."""
    return " ".join(spoilt(part, max(2, 9 - 2 * len(parts))) for part in parts)


def stated(kinds):
    config = dataclasses.replace(module.PRESETS["quick"], trained=3, longest=6)
    own = judged(kinds)
    found = claims.inside(config, own) + claims.beyond(config, own)
    return {claim.name: claim.holds for claim in found}


def test_claims_hold_inside_and_fail_beyond_for_a_model_that_stops_after_what_it_was_trained_on():
    found = stated({"search": upto(3), "encdec": fading})
    assert {name for name, holds in found.items() if not holds} == {"beyond-4", "beyond-6"}
    assert {
        "within-2",
        "within-3",
        "joined-3",
        "falls-encdec",
        "keeps-encdec",
        "above-encdec",
        "parts-6",
    } <= set(found)


def test_claims_beyond_hold_for_a_model_that_goes_on_and_then_parts_gain_nothing():
    found = stated({"search": upto(6), "encdec": fading})
    assert found["beyond-4"]
    assert found["beyond-6"]
    assert not found["parts-6"]


def test_a_planted_fault_inside_the_trained_lengths_is_seen():
    found = stated({"search": upto(2), "encdec": fading})
    assert found["within-2"]
    assert not found["within-3"]
    assert not found["joined-3"]


def test_attention_that_fades_is_not_said_to_be_better_than_a_context_that_does_not():
    found = stated({"search": fading, "encdec": upto(6)})
    assert {name for name, holds in found.items() if holds} == {"within-2", "parts-6"} & {
        name for name, holds in found.items() if holds
    }
    assert not any(
        found[name] for name in ("falls-encdec", "keeps-encdec", "above-encdec", "beyond-above-encdec")
    )


def test_where_a_model_holds_is_the_last_length_before_the_first_that_is_out_of_bounds():
    config = dataclasses.replace(module.PRESETS["quick"], trained=3, longest=6)
    own = judged({"search": upto(3), "encdec": fading})
    assert results.holds_to(config, own, "search", own.fall) == 3
    assert results.holds_to(config, own, "search", own.parts_less_whole) == 3
    assert results.holds_to(config, own, "encdec", own.fall) < 3
    whole = judged({"search": upto(6)})
    assert results.holds_to(config, whole, "search", whole.fall) == 6


# parts


def test_lines_are_cut_at_marks_and_what_is_left_over_is_a_sentence_too():
    assert fits.cut("a b . c ! d") == ["a b .", "c !", "d"]
    assert fits.cut("") == []
    assert fits.whole(["a .", "a . b .", "a", "a ?"]).tolist() == [True, False, False, True]
    assert fits.positions(["a . b .", "", "a . b . c . d ."], 3) == [
        ["a .", "", "a ."], ["b .", "", "b ."], ["", "", "c ."]
    ]  # fmt: skip


def test_repetitions_are_the_four_grams_that_were_there_before():
    assert fits.repeats("a b c d a b c d") == (1, 5)
    assert fits.repeats("a b c") == (0, 0)
    assert fits.repeated_share(["a b c d a b c d", "a b c d e"]) == pytest.approx(1 / 7)
    assert fits.repeated_share([""]) == 0


def made(alignment, source="abcd", complete=True, target=None):
    words = tuple("x" * len(alignment)) if target is None else target
    return attention.Translation(
        "", 0.0, torch.tensor(alignment, dtype=torch.float64), tuple(source), words, complete
    )


def test_attention_is_summed_by_part_over_its_words():
    looks = [[0.5, 0.5, 0.0, 0.0, 0.0], [0.0, 0.0, 0.6, 0.2, 0.2]]
    assert fits.received([made(looks)], np.array([[1, 3]]))[0] == pytest.approx([0.5, 1.3 / 3])
    assert fits.received([made(looks)], np.array([[1, 4]])) == [None]


def test_maps_are_the_median_the_best_and_the_worst_of_those_that_ended(tmp_path):
    _, side = prepared(tmp_path)
    references = side.joined(side.references, 2)
    lengths = side.part_lengths[side.places[1]].sum(1)
    found = [made(np.full((2, n + 1), 1 / (n + 1)).tolist(), complete=k != 5) for k, n in enumerate(lengths)]
    lines = [spoilt(line, 4) for line in references]
    lines[5], lines[7], lines[9] = "no", references[7], "no no"
    chosen = {one["which"]: one for one in fits.maps(found, lines, side, 2)}
    assert chosen["worst"]["place"] == 9
    assert chosen["best"]["bleu"] == pytest.approx(100)
    assert sum(chosen["best"]["parts"]) == lengths[chosen["best"]["place"]]
    assert chosen["worst"]["bleu"] < chosen["median"]["bleu"] < chosen["best"]["bleu"]


def test_a_search_with_a_least_length_keeps_to_it(tmp_path):
    folder = carry_out("attention-length", tmp_path / "run", **{**TINY, "models": ("search",)})
    kept = json.loads((folder.directory / "stages" / "test-search-0-3.json").read_text())["result"]
    names = [row["name"] for row in kept["searches"]]
    assert names[0] == "greedy"
    least = float(names[2].split("at least ")[1].split()[0])
    sources = (folder.directory / "predictions" / "3-source.txt").read_text().splitlines()
    lengths = [len(line.split()) for line in kept["searches"][2]["words"]]
    assert all(
        n >= int(least * (len(line.split()) + 1)) - 1 for n, line in zip(lengths, sources, strict=True)
    )


# refusals


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"source_file": "absent.en"}, r"--source-file: there is no file 'absent\.en'"),
        ({"target_file": "absent.fr"}, r"--target-file is given without --source-file"),
        ({"test_source_file": __file__}, r"given without --source-file: give the text to train on"),
        ({"segmentation": "letters"}, "words, bpe, unigram"),
        ({"models": ("fixed",)}, "give search"),
        ({"trained": 0}, "trained is 0"),
        ({"seeds": 0}, "seeds is 0"),
        ({"draw": -1}, "draw is -1"),
        ({"longest": 1}, "longest is 1"),
        ({"trained": 4}, "at least trained, which is 4"),
        ({"tests": 59}, "3 pairs joined, 20 times, need 60 pairs"),
        ({"within": 0.0}, "within is 0.0"),
        ({"numbers": 98}, "numbers is 98"),
        ({"rate": 0.0}, "rate is 0.0"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        module.check(tiny(**changes))


def test_presets_are_accepted():
    for config in module.PRESETS.values():
        module.check(config)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"numbers": 99, "tests": 100}, "100 numbers are too few to train on"),
        ({"trained": 12, "longest": 12, "tests": 240}, "trained is 12 and there are 10 pairs to join"),
    ],
)
def test_too_little_text_is_refused(tmp_path, changes, said):
    module.check(tiny(**changes))
    with pytest.raises(ConfigError, match=said):
        prepared(tmp_path, **changes)


def test_a_file_too_short_for_the_lengths_asked_is_refused(tmp_path, own):
    with pytest.raises(
        ConfigError, match=r"70 pairs to test on; 4 joined, 20 times, need 80: lower --longest"
    ):
        prepared(tmp_path, **own, longest=4, tests=80)


# real text


@pytest.mark.skipif(not MULTI30K.is_dir(), reason="no Multi30k beside the checkout")
def test_real_sentences_are_joined_word_by_word_as_they_are_told_apart(tmp_path):
    given = {
        f"{part}{side}_file": str(MULTI30K / f"{name}.{language}.gz")
        for part, name in (("", "train"), ("test_", "test_2016_flickr"), ("held_", "val"))
        for side, language in (("source", "en"), ("target", "fr"))
    }
    _, side = prepared(tmp_path, **given, examples=300, tests=300, trained=3, longest=8)
    lines = side.joined(side.text.test.source, 8)
    cut = side.text.source_words.tokenize
    lengths = side.part_lengths[side.places[7]].sum(1)
    agree = [len(cut(line)) == n for line, n in zip(lines, lengths)]
    assert np.mean(agree) > 0.9
    assert results.clean(side, 2).mean() > 0.8
    assert side.text.seen == 0
