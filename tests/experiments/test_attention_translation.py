"""attention-translation in small: made-up and real text end to end, what is refused, claims that can fail, resuming."""

from __future__ import annotations

import dataclasses
import gzip
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from fingerpost import attention
from fingerpost.errors import ConfigError, MissingExtraError
from fingerpost.experiments import _attention_translation_claims as claims
from fingerpost.experiments import _attention_translation_fits as fits
from fingerpost.experiments import _attention_translation_results as results
from fingerpost.experiments import _attention_translation_text as texts
from fingerpost.experiments import _translation as translation
from fingerpost.experiments import attention_translation as module
from fingerpost.experiments._translation_scores import Scores, buckets
from fingerpost.lab import RunFolder

from experiments.carrying import carry_out, results_of  # isort: skip

MULTI30K = Path(__file__).resolve().parents[3] / "shared" / "data" / "multi30k"
TINY = {
    "examples": 0, "tests": 60, "held": 10, "embedding": 12, "hidden": 16, "epochs": 3, "batch_size": 16, "rate": 0.01,
    "beam": 2,
    "source_language": "none", "target_language": "none", "edges": (5,),
}  # fmt: skip
RIVALS = ("fixed", "encdec")


def pairs(count=640, seed=0):
    """Sentences of three to eight made-up words, and the same in another tongue, the last word first."""
    draw = np.random.default_rng(seed)
    rows = [draw.integers(20, size=draw.integers(3, 9)) for _ in range(count)]
    source = [" ".join(f"Wa{k}" for k in row) for row in rows]
    return source, [" ".join(f"Bo{k}" for k in [row[-1], *row[:-1]]) for row in rows]


@pytest.fixture
def own(tmp_path):
    """Two files of a made-up language, the second gzipped."""
    source, target = pairs()
    files = tmp_path / "own.aa", tmp_path / "own.bb.gz"
    files[0].write_text("".join(f"{line}\n" for line in source))
    files[1].write_bytes(gzip.compress("".join(f"{line}\n" for line in target).encode()))
    return {"source_file": str(files[0]), "target_file": str(files[1])}


def tiny(own, **changes):
    return dataclasses.replace(module.PRESETS["quick"], **{**TINY, **own, **changes})


def test_a_users_files_give_translations_tables_pictures_and_every_claim(tmp_path, own):
    folder = carry_out("attention-translation", tmp_path / "run", **own, **{**TINY, "seeds": 2})
    names = {claim.name for claim in folder.claims()}
    assert names == {
        f"{what}-{kind}" for what in ("above", "length", "length-share", "longest") for kind in RIVALS
    }
    shown = {row["name"] for row in json.loads((folder.directory / "contents.json").read_text())}
    assert {"scores", "parts", "lengths", "maps", "alignments", "learning", "trainings", "examples"} <= shown
    lines = {
        path.stem: path.read_text().splitlines() for path in (folder.directory / "predictions").iterdir()
    }
    assert set(lines) == {"source", "reference", *(f"{k}-{s}" for k in translation.MODELS for s in (0, 1))}
    assert {len(rows) for rows in lines.values()} == {60}
    source, target = (dict(zip(*side)) for side in (pairs(), pairs()[::-1]))
    assert all(source[line] == other for line, other in zip(lines["source"], lines["reference"]))
    assert target
    translator = attention.Translator.load(folder.directory / "search-0")
    again = translator.translate(lines["source"][:5], width=2)
    assert [one.text for one in again] == lines["search-0"][:5]
    assert set(json.loads((folder.directory / "manifest.json").read_text())["files"]) >= {
        "predictions/search-0.txt", "search-0/translator.safetensors",
    }  # fmt: skip


def test_the_command_translates_with_what_a_run_has_trained(tmp_path, own):
    carry_out("attention-translation", tmp_path / "run", **own, **{**TINY, "models": ("search",)})
    command = [sys.executable, "-m", "fingerpost", "translate", str(tmp_path / "run")]
    done = subprocess.run(
        command, input="Wa1 Wa2 Wa3\n\nwa4 wa5\n", capture_output=True, text=True, check=True
    )
    lines = done.stdout.split("\n")
    assert len(lines) == 4
    assert (bool(lines[0]), lines[1], lines[3]) == (True, "", "")
    assert all(word.startswith("bo") for word in lines[0].split())


def test_with_attention_alone_nothing_is_compared(tmp_path, own):
    folder = carry_out(
        "attention-translation", tmp_path / "run", **own,
        **{**TINY, "models": ("search",), "target_bleu": 99.0, "target_minutes": 60.0},
    )  # fmt: skip
    assert {claim.name: claim.holds for claim in folder.claims()} == {
        "target-bleu": False,
        "target-minutes": True,
    }


def test_both_directions_are_trained_and_claimed_apart(tmp_path, own):
    folder = carry_out(
        "attention-translation", tmp_path / "run", **own,
        **{**TINY, "models": ("search", "encdec"), "both_directions": True, "target_bleu_back": 0.5, "target_gap": 50.0},
    )  # fmt: skip
    found = {claim.name: claim for claim in folder.claims()}
    assert {"above-encdec", "above-encdec-back", "target-gap-encdec-back", "target-bleu-back"} <= set(found)
    assert "target-bleu" not in found
    assert not found["target-gap-encdec"].holds
    there, back = (
        attention.Translator.load(folder.directory / name) for name in ("search-0", "back-search-0")
    )
    assert there.source_segmenter.fingerprint == back.target_segmenter.fingerprint
    read = lambda name: (folder.directory / "predictions" / f"{name}.txt").read_text()  # noqa: E731
    assert read("source") == read("back-reference")
    assert read("reference") == read("back-source")


def test_subwords_are_trained_on_and_their_words_are_scored(tmp_path, own):
    changes = {"segmentation": "unigram", "vocabulary": 26, "models": ("search",), "epochs": 1, "tests": 20}
    folder = carry_out("attention-translation", tmp_path / "run", **own, **{**TINY, **changes})
    translator = attention.Translator.load(folder.directory / "search-0")
    assert translator.target_segmenter.state["kind"] == "subwords"
    config = tiny(own, **changes)
    (side,) = texts.directions(config, texts.load(config))
    assert side.corpus.target.fingerprint == translator.target_segmenter.fingerprint
    assert side.corpus.target.split("Bo12") != ["bo12"]
    tested = {"lines": ["bo12  bo3 bo4", ""], "tokens": ["▁b o1 2 ▁b o3 ▁b o4", ""]}
    assert fits.words_of(config, side, tested) == ["bo12 bo3 bo4", ""]
    assert fits.words_of(tiny(own), side, tested) == tested["tokens"]
    assert side.known.all()


# a stopped training


def weights(folder):
    return {path.parent.name: path.read_bytes() for path in Path(folder).glob("*/translator.safetensors")}


def test_a_killed_training_resumes_to_the_same_weights_and_translations(tmp_path, own, monkeypatch):
    asked = {**own, **TINY, "models": ("search", "encdec"), "epochs": 1}
    carry_out("attention-translation", tmp_path / "never", **asked)
    monkeypatch.setattr(translation, "train", partial(translation.train, checkpoint_seconds=0))
    whole, calls = translation.attention.AbstractEncoderDecoder.loss, []

    def stopping(model, *parts):
        calls.append(1)
        if len(calls) in (20, 60):
            raise KeyboardInterrupt
        return whole(model, *parts)

    monkeypatch.setattr(translation.attention.AbstractEncoderDecoder, "loss", stopping)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            carry_out("attention-translation", tmp_path / "killed", **asked)
    carry_out("attention-translation", tmp_path / "killed", **asked)
    assert weights(tmp_path / "killed") == weights(tmp_path / "never")
    ours, theirs = results_of(tmp_path / "killed"), results_of(tmp_path / "never")
    timed = {Path("tables/trainings.csv"), *map(Path, ("stages/search-0.json", "stages/encdec-0.json"))}
    assert set(ours) == set(theirs)
    assert [name for name in ours if ours[name] != theirs[name] and name not in timed] == []


def test_a_run_does_not_go_on_with_another_text(tmp_path, own, monkeypatch):
    asked = {**own, **TINY, "models": ("search",)}
    with monkeypatch.context() as patch:
        patch.setattr(fits, "measure", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            carry_out("attention-translation", tmp_path / "run", **asked)
    file = Path(own["source_file"])
    file.write_text(file.read_text().replace("Wa1 ", "Wa2 ", 1))
    with pytest.raises(ConfigError, match="has changed since the run began"):
        carry_out("attention-translation", tmp_path / "run", **asked)


def test_seeds_that_were_trained_apart_are_shown_together(tmp_path, own):
    asked = {**own, **TINY, "models": ("search", "encdec"), "epochs": 1}
    for seed in (0, 1):
        carry_out("attention-translation", tmp_path / f"{seed}", **asked, seed=seed)
    reuse = f"{tmp_path / '0'},{tmp_path / '1'}"
    carry_out("attention-translation", tmp_path / "all", **{**asked, "seeds": 2, "reuse": reuse})
    assert weights(tmp_path / "all") == weights(tmp_path / "0") | weights(tmp_path / "1")
    assert not [row for row in RunFolder(tmp_path / "all").metrics() if row["stage"] == "search-0"]


# claims


def judged(outputs, references, lengths):
    """What is judged of translations that somebody else made."""
    scores = {
        kind: Scores([rows], references, attention.Bleu(tokenize="none")) for kind, rows in outputs.items()
    }
    known = np.arange(len(references)) % 2 == 0
    return results.Judged(scores, scores, scores, lengths, buckets(lengths, (5,)), known)


def claimed(config, outputs):
    source, target = pairs(120)
    lengths = [len(line.split()) for line in source]
    made = {kind: [cut(line.split(), k) for k, line in enumerate(target)] for kind, cut in outputs.items()}
    config = dataclasses.replace(config, models=tuple(outputs))
    text = attention.ParallelText(source, target)
    side = texts.Direction("", "a → b", translation.Corpus(text, text, None, None), text, None, None)
    return {
        claim.name: claim for claim in claims.of_rival(config, side, judged(made, target, lengths), "encdec")
    }


def whole(words, _):
    return " ".join(words)


def spoilt(words, k):
    return " ".join(["no", *words[1:]] if k % 4 else words)


def lost(words, k):
    """All right up to five words, and after them wrong, most often."""
    return " ".join(words if len(words) < 6 or k % 5 == 0 else [*words[:4], *["no"] * (len(words) - 4)])


def test_claims_hold_where_attention_is_better_and_keeps_up_and_fail_where_it_is_not():
    config = module.PRESETS["quick"]
    names = {f"{what}-encdec" for what in ("above", "known-words", "length", "length-share", "longest")}
    good = claimed(config, {"search": spoilt, "encdec": lost})
    assert set(good) == names
    assert {name for name, claim in good.items() if claim.holds} >= {
        "length-encdec", "length-share-encdec", "longest-encdec"
    }  # fmt: skip
    assert all(claim.holds for claim in claimed(config, {"search": whole, "encdec": lost}).values())
    faulty = claimed(config, {"search": lost, "encdec": whole})
    assert not any(claim.holds for claim in faulty.values())
    same = claimed(config, {"search": lost, "encdec": lost})
    assert not any(claim.holds for claim in same.values())
    assert same["above-encdec"].measured == 0


def test_the_share_that_is_kept_is_that_of_the_two_parts_scores():
    source, target = pairs(120)
    lengths = [len(line.split()) for line in source]
    own = judged({"search": [lost(line.split(), k) for k, line in enumerate(target)]}, target, lengths)
    short, long = (bucket.rows for bucket in own.by_length)
    scores = own.words["search"]
    found = scores.kept(short, long)
    assert found.mean == pytest.approx(100 * scores.score(long).mean / scores.score(short).mean)
    assert found.low < found.mean < found.high
    assert scores.kept(short, long, scores) == (0, 0, 0)
    nothing = Scores([["no"] * 120], target, attention.Bleu(tokenize="none"))
    assert np.isnan(nothing.kept(short, long).mean)


def test_scores_are_sacrebleus_mean_over_trainings():
    library = pytest.importorskip("sacrebleu")
    _, target = pairs(60)
    cuts = spoilt, lost
    outputs = [[cut(line.split(), k) for k, line in enumerate(target)] for cut in cuts]
    scores = Scores(outputs, target, attention.Bleu(tokenize="none"))
    each = [library.corpus_bleu(rows, [target], tokenize="none").score for rows in outputs]
    assert scores.of_each() == pytest.approx(each)
    assert scores.score().mean == pytest.approx(np.mean(each))
    one, other = (Scores([rows], target, attention.Bleu(tokenize="none")) for rows in outputs)
    assert one.gap(other).mean == pytest.approx(each[0] - each[1])
    assert one.gap(other).low < each[0] - each[1] < one.gap(other).high


# parts


def test_edges_are_quantiles_to_the_nearest_five_words():
    draw = np.random.default_rng(0)
    assert results.edges_of(draw.normal(13, 4, 1000).round().clip(3).astype(int).tolist()) == (10, 15, 20)
    assert results.edges_of([1, 2, 3, 4, 5, 6, 7, 8]) == (3, 6)
    assert results.edges_of([4] * 50) == ()


def test_sentences_to_draw_are_those_nearest_the_median_and_least_in_order_of_the_sharper_half():
    lengths = (11, 9, 9, 9, 12, 30, 8, 9, 10, 10)
    made = partial(attention.Translation, "", 0.0)
    found = [made(torch.eye(n), tuple("x" * n), tuple("y" * n), k != 1) for k, n in enumerate(lengths)]
    order = [0.5, -1.0, 0.9, 0.9, 0.2, -1.0, None, 0.9, 0.4, 0.1]
    entropy = [0.1, 0.0, 0.1, 0.1, 0.2, 0.0, None, 0.9, 0.3, 0.8]
    assert [one["place"] for one in fits.maps(found, order, entropy)] == [2, 3, 4, 8]


def test_alignments_are_measured_sentence_by_sentence_and_lack_where_there_is_none():
    found = [
        attention.Translation("", 0.0, torch.eye(3).flip(0), ("a", "b", "c"), ("d", "e", "f"), True),
        attention.Translation("", -np.inf, None, ("a",), (), False),
        attention.Translation("", 0.0, torch.ones(1, 1), ("a",), ("d",), True),
    ]
    rows = fits.alignments(found)
    assert rows["monotonicity"] == [-1.0, None, None]
    assert rows["entropy"] == [0.0, None, 0.0]
    assert rows["missed"] == rows["repeated"] == [0.0, None, 0.0]


def test_a_part_of_the_text_is_held_out_and_no_source_is_in_two_parts(own):
    text = texts.load(tiny(own, tests=50, held=20))
    parts = [set(part.source) for part in text[:3]]
    assert [len(part) for part in text[:3]] == [570, 20, 50]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert text.drawn == ("test", "held")
    assert texts.load(tiny(own, tests=50, held=20, seed=7)) == text
    assert texts.load(tiny(own, tests=50, held=20, draw=7)) != text
    few = texts.load(tiny(own, examples=100))
    assert len(few.train) == 100


def test_one_file_with_tabs_is_read_and_files_of_their_own_are_tested(tmp_path):
    for name, seed, count in (("train", 0, 200), ("test", 1, 40), ("held", 2, 30)):
        rows = zip(*pairs(count, seed))
        (tmp_path / f"{name}.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in rows))
    given = {
        "source_file": str(tmp_path / "train.tsv"),
        "test_source_file": str(tmp_path / "test.tsv"),
        "held_source_file": str(tmp_path / "held.tsv"),
    }
    text = texts.load(tiny(given, tests=40))
    assert [len(part) for part in text[:3]] == [200, 10, 40]
    assert text.drawn == ()
    assert tuple(text.test.source) == tuple(pairs(40, 1)[0])


def test_longer_pairs_are_left_out_and_counted(own):
    source, _ = pairs()
    text = texts.load(tiny(own, limit=6))
    assert text.too_long == sum(len(line.split()) > 6 for line in source)
    assert max(len(line.split()) for part in text[:3] for line in part.source) == 6


@pytest.mark.parametrize(
    ("name", "language"), [("train.en.gz", "en"), ("a/b.fr", "fr"), ("train.tsv", ""), ("text.gz", "")]
)
def test_a_language_is_read_from_a_name(name, language):
    assert texts.language_in(name) == language


def test_words_are_told_apart_by_the_language_that_is_given_or_named():
    assert texts.words_of("", "x.fr", True, "source-language").tokenize("L'air.") == ["l'", "air", "."]
    assert texts.words_of("none", "x.fr", True, "source-language").tokenize("L'air.") == ["l'air."]
    assert texts.words_of("", "x.qq", False, "source-language").tokenize("L'air.") == ["L'air."]
    with pytest.raises(ConfigError, match=r"--source-language: language is 'qq'.*none"):
        texts.words_of("qq", "x.fr", True, "source-language")


# refusals


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"source_file": ""}, r"--source-file is not given: give --source-file and --target-file"),
        ({"source_file": "absent.en"}, r"--source-file: there is no file 'absent\.en'"),
        ({"test_target_file": "absent.fr"}, r"--test-target-file is given without --test-source-file"),
        ({"held_source_file": "absent.fr"}, r"--held-source-file: there is no file"),
        ({"segmentation": "letters"}, "words, bpe, unigram"),
        ({"models": ("fixed",)}, "give search"),
        ({"models": ("search", "transformer")}, "models are search, transformer"),
        ({"seeds": 0}, "seeds is 0"),
        ({"minimum": 0}, "minimum is 0"),
        ({"vocabulary": -1}, "vocabulary is -1"),
        ({"edges": (10, 5)}, "increasing"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"rate": 0.0}, "rate is 0.0"),
    ],
)
def test_settings_that_cannot_work_are_refused(own, changes, said):
    with pytest.raises(ConfigError, match=said):
        module.check(tiny(own, **changes))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows[:-1], r"own\.aa has 639 lines and .*own\.bb\.gz 640"),
        (lambda rows: [*rows[:4], b"", *rows[5:]], r"own\.aa: line 5 is empty.*take these pairs out, of both files"),
        (lambda rows: [*rows[:4], b"caf\xe9", *rows[5:]], r"own\.aa: line 5 is not UTF-8: byte 0xe9 at place 4"),
        (lambda rows: [b"x " * 101] * len(rows), r"no pair of 640 is within lengths 1 to 100"),
        (lambda rows: [f"word{k}".encode() for k in range(len(rows))], r"no word is there 2 times.*"),
        (lambda rows: [b"the same"] * len(rows), r"1 different sources; both parts need"),
    ],
)  # fmt: skip
def test_a_text_that_cannot_be_learnt_from_is_refused_before_anything_is_trained(tmp_path, own, change, said):
    file = Path(own["source_file"])
    file.write_bytes(b"\n".join(change(file.read_bytes().splitlines())) + b"\n")
    with pytest.raises(ConfigError, match=said) as caught:
        carry_out("attention-translation", tmp_path / "run", **own, **TINY)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "stages").exists()
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_a_tested_line_beyond_the_limit_is_refused_by_its_number(tmp_path, own):
    file = tmp_path / "test.tsv"
    file.write_text("a b\tc d\na b c d\te f\n")
    with pytest.raises(ConfigError, match=r"test\.tsv: line 2 in the source has 4 words.*raise --limit, or"):
        texts.load(tiny(own, limit=3, test_source_file=str(file)))


def test_too_many_subwords_are_refused_with_how_many_there_are(own):
    config = tiny(own, segmentation="bpe", vocabulary=5_000)
    with pytest.raises(ConfigError, match=r"--vocabulary.*at most \d+ in it"):
        texts.directions(config, texts.load(config))


def test_a_missing_library_of_metrics_is_told_before_anything_is_trained(tmp_path, own, monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    with pytest.raises(MissingExtraError, match="sacrebleu"):
        carry_out("attention-translation", tmp_path / "run", **own, **TINY)
    assert not (tmp_path / "run" / "stages").exists()


# real text


@pytest.mark.skipif(not MULTI30K.is_dir(), reason="no Multi30k beside the checkout")
def test_on_real_text_attention_learns_and_no_tested_sentence_was_trained_on(tmp_path):
    given = {
        f"{part}{side}_file": str(MULTI30K / f"{name}.{language}.gz")
        for part, name in (("", "train"), ("test_", "test_2016_flickr"), ("held_", "val"))
        for side, language in (("source", "en"), ("target", "fr"))
    }
    asked = {
        "examples": 400,
        "tests": 80,
        "held": 40,
        "epochs": 2,
        "embedding": 32,
        "hidden": 32,
        "models": ("search",),
    }
    folder = carry_out("attention-translation", tmp_path / "run", **given, **asked)
    (curve,) = [
        row["result"]["curve"]
        for row in [json.loads((folder.directory / "stages/search-0.json").read_text())]
    ]
    assert curve[1][1] < curve[0][1]
    (text,) = [
        row["caption"]
        for row in json.loads((folder.directory / "contents.json").read_text())
        if row["name"] == "The text"
    ]
    assert "Moses's rules (en) and Moses's rules (fr)" in text
    assert "trained on too: 0 (en → fr)" in text
