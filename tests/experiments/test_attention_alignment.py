"""attention-alignment in small: its tasks and encoders, what it measures, that it resumes, and that claims can fail."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch

from fingerpost import attention
from fingerpost.errors import ConfigError, InvalidValueError
from fingerpost.experiments import _attention_alignment_claims as claims
from fingerpost.experiments import _attention_alignment_measures as measures
from fingerpost.experiments import _attention_alignment_models as models
from fingerpost.experiments import _attention_alignment_results as results
from fingerpost.experiments import _permutations as permutations
from fingerpost.experiments import _translation as translation
from fingerpost.experiments import attention_alignment as module
from fingerpost.experiments._attention_alignment_tasks import (
    SOURCE_NAMES,
    TARGET_NAMES,
    agreement,
    sides_of_text,
    text_of,
)
from fingerpost.experiments._permutations import SPECIAL
from fingerpost.lab import Run, RunFolder

from experiments.carrying import carry_out, results_of  # isort: skip

TINY = {
    "seeds": 2, "words": 8, "longest": 4, "measured": (4, 6), "tests": 30, "phrases": 2, "between": 1, "pairs": 96,
    "agreeing": 96, "held": 8, "embedding": 8, "hidden": 8, "variants": ("additive", "dot"), "beam": 1,
}  # fmt: skip


def config(**changes):
    return dataclasses.replace(module.PRESETS["quick"], **{**TINY, **changes})


def names(ids, words):
    return [words[word - SPECIAL] for word in ids[:-1]]


# the task


def automaton(words):
    """What w becomes, by hand, from the words between it and its noun, read from the noun."""
    first, *between, noun = words
    turns = sum(word.startswith("x") for word in between)
    classes = "mf" if turns % 2 == 0 else "fm"
    return first + classes["mf".index(noun[0])]


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_word_that_agrees_is_what_reading_from_its_noun_makes_of_it(side):
    made = agreement(side, 200, 3, 3, seed=1)
    met = set()
    for source, target, places in zip(made.task.source, made.task.target, made.agreeing):
        given, wanted = names(source, SOURCE_NAMES), names(target, TARGET_NAMES)
        assert source[-1] == target[-1] == 3
        assert len(given) == len(wanted)
        those = {place for place, _, _ in places}
        assert [a for k, a in enumerate(given) if k not in those] == [
            b for k, b in enumerate(wanted) if k not in those
        ]
        for place, noun, last in places:
            step = 1 if side == "right" else -1
            phrase = given[place::step][: abs(noun - place) + 1]
            assert wanted[place] == automaton(phrase)
            assert (noun - place) * step > 0
            assert last == (max(place, noun) == len(given) - 1)
            met.add((abs(noun - place), wanted[place][-1]))
    assert met == {(distance, name) for distance in (1, 2, 3, 4) for name in "mf"}


def test_the_text_of_words_that_agree_has_their_ids():
    made, (source, target) = agreement("left", 20, 2, 2, seed=0), sides_of_text()
    text = text_of(made)
    assert [source.encode(line) for line in text.source] == made.task.source
    assert [target.encode(line) for line in text.target] == made.task.target


@pytest.mark.parametrize("given", [("up", 1, 1, 1), ("left", 0, 1, 1), ("left", 1, 0, 1), ("left", 1, 1, -1)])
def test_tasks_that_cannot_be_drawn_are_refused(given):
    with pytest.raises(InvalidValueError, match="expected"):
        agreement(*given, seed=0)


# encoders


def encoder(seed=0, hidden=5):
    torch.manual_seed(seed)
    return attention.Encoder(12, 4, hidden).double()


def test_an_encoder_that_skips_nothing_is_the_encoder():
    given = encoder()
    shorter = models.ShorterReading(given, 0, True).double()
    source = torch.tensor([[4, 5, 6, 3], [7, 3, 0, 0]])
    for fused in (True, False):
        one, other = (e(source, source != 0, fused=fused) for e in (given, shorter))
        kept = (source != 0)[..., None]
        assert torch.equal(one.states * kept, other.states * kept)
        assert torch.equal(one.backward, other.backward)
        assert torch.equal(one.onward, other.onward)


@pytest.mark.parametrize("fused", [True, False])
def test_a_backward_unit_that_starts_late_reads_the_words_before_as_if_the_sentence_ended_there(fused):
    given = encoder()
    shorter = models.ShorterReading(given, 2, False).double()
    source = torch.tensor([[4, 5, 6, 7, 3], [7, 8, 9, 3, 0]])
    cut = torch.tensor([[4, 5, 6], [7, 8, 0]])
    late = shorter(source, source != 0, fused=fused)
    wanted = given(cut, cut != 0, fused=fused)
    assert torch.equal(late.states[0, :3, 5:], wanted.states[0, :, 5:])
    assert torch.equal(late.states[1, :2, 5:], wanted.states[1, :2, 5:])
    assert torch.equal(late.backward, wanted.backward)
    assert late.states[0, 3:].abs().max() == late.states[..., :5].abs().max() == 0


def test_sensitivity_is_the_derivative_and_is_zero_exactly_where_nothing_was_read():
    given, sentence = encoder(), [4, 5, 6, 7, 3]
    norms = measures.sensitivity(given, sentence)
    source, step = torch.tensor([sentence]), 1e-6
    embeddings = given.embedding(source).detach()
    moved = []
    for k in range(embeddings.shape[-1]):
        up, down = embeddings.clone(), embeddings.clone()
        up[0, 1, k] += step
        down[0, 1, k] -= step
        ends = [given(source, source != 0, embeddings=e).states[0] for e in (up, down)]
        moved.append((ends[0] - ends[1]) / (2 * step))
    moved = torch.stack(moved, -1).square()
    wanted = torch.stack([moved[:, :5].sum((1, 2)), moved[:, 5:].sum((1, 2))], -1).sqrt()
    torch.testing.assert_close(norms[:, 1], wanted, rtol=1e-6, atol=1e-9)
    assert torch.equal(norms[..., 0] > 0, torch.ones(5, 5).tril() > 0)
    late = measures.sensitivity(models.ShorterReading(given, 2, False).double(), sentence)
    assert torch.equal(
        late[..., 1] > 0, (torch.arange(5) >= torch.arange(5)[:, None]) & (torch.arange(5) < 3)
    )


def test_readings_and_variants_make_the_models_that_they_name():
    recipe = translation.recipe_of(config())
    for name, reading in models.READINGS.items():
        one_way = dataclasses.replace(recipe, bidirectional=reading.backward)
        model = models.read_as(reading)("search", 10, 11, one_way, 0)
        assert (model.encoder.backward_unit is None) == (name == "forward")
        assert getattr(model.encoder, "skipped", 0) == reading.skipped
    kinds = {"additive": attention.AdditiveAttention, "dot": attention.DotAttention}
    for name in models.VARIANTS:
        before = torch.get_rng_state()
        one, other = (models.variant(name)("search", 10, 11, recipe, 3) for _ in range(2))
        assert torch.equal(before, torch.get_rng_state())
        for a, b in zip(one.parameters(), other.parameters()):
            assert torch.equal(a, b)
        assert isinstance(one.decoder.attention, kinds.get(name, attention.AbstractAttention)), name
        assert one.decoder.readout_state == (name if name in ("previous", "original") else "current")


# measures


def test_a_perfect_alignment_has_no_error_and_the_rules_order_and_one_next_door_is_told_apart():
    tests = permutations.task("swap", 5, (6, 6), 9, 0, distinct=True)
    truth = torch.tensor(tests.alignment)[:, :-1]
    perfect = torch.nn.functional.one_hot(truth, 7).double()
    found = measures.aligned(perfect, truth)
    for name in ("error", "near_error", "entropy", "missed", "repeated"):
        assert found[name].abs().max() == 0, name
    assert torch.equal(found["tau"], found["true_tau"])
    torch.testing.assert_close(found["tau"], torch.full((5,), (15 - 2 * 3) / 15, dtype=torch.float64))
    assert found["offsets"][:, measures.REACH].min() == 1
    shifted = measures.aligned(perfect.roll(1, -1), truth)  # the word behind
    assert shifted["error"].min() == 1
    assert shifted["near_error"].max() == 0
    assert shifted["mass"].max() == 0
    assert shifted["near_mass"].min() == 1
    assert shifted["offsets"][:, measures.REACH + 1].min() == 1
    # 1 0 3 2 5 4, each a place on: the second word of a pair is then where the first belongs
    assert (shifted["lagging"] - 3 / 5).abs().max() < 1e-12
    assert shifted["leading"].max() == 0


def test_forced_passes_agree_with_the_models_own():
    torch.manual_seed(0)
    model = attention.RNNSearch(12, 12, embedding=6, hidden=6, attention=6, maxout=6).eval()
    source = measures.padded([[4, 5, 6, 3], [7, 3]], "cpu")
    target = measures.padded([[8, 9, 3], [5, 6, 7, 3]], "cpu")
    weights, likeliest = measures.forced(model, source, target)
    wanted = model.alignments(source, target)
    kept = (target != 0)[..., None]
    torch.testing.assert_close(weights * kept, wanted)
    assert likeliest.shape == target.shape


def test_an_output_is_scored_by_the_words_that_it_translates():
    source, target = [4, 5, 6, 3], [6, 5, 4, 3]
    weights = torch.eye(4)[[2, 1, 0, 3]]
    found = attention.Hypothesis((6, 5, 4, 3), -1.0, weights, True)
    assert measures.own_output(found, source, target) == {
        "exact": 1.0, "strange": 0.0, "own_error": 0.0, "own_near_error": 0.0,
    }  # fmt: skip
    other = attention.Hypothesis((5, 9, 3), -1.0, weights[:3], True)
    scores = measures.own_output(other, source, target)
    assert scores == {"exact": 0.0, "strange": 0.5, "own_error": 1.0, "own_near_error": 0.0}
    assert measures.own_output(None, source, target)["own_error"] is None


# the whole


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alignment") / "run"
    return carry_out("attention-alignment", folder, **TINY)


def test_it_shows_every_figure_table_and_claim_and_trains_what_it_says(finished):
    figures = {path.stem for path in finished.directory.glob("figures/*.svg")}
    assert figures == {"maps", "looks", "offsets", "lengths", "directions", "late", "read"}
    tables = {path.stem for path in finished.directory.glob("tables/*.csv")}
    assert tables == {"attentions", "orders", "lengths", "agreement", "trainings"}
    found = {claim.name: claim for claim in finished.claims()}
    assert len(found) == 21
    # what holds whatever was learned
    for name in ("onward-reads-no-further", "both-read-everything", "late-last-word-unread"):
        assert found[name].holds, name
    assert not found["onward-without-its-word"].holds
    # and what three updates cannot do
    for name in ("aligned-exactly", "mass", "order"):
        assert not found[name].holds, name


def test_a_run_that_was_killed_in_a_training_ends_as_one_that_was_not(finished, tmp_path, monkeypatch):
    real, calls = translation.held_out_perplexity, []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(translation, "held_out_perplexity", killed)
    with pytest.raises(KeyboardInterrupt):
        carry_out("attention-alignment", tmp_path / "run", **TINY)
    monkeypatch.setattr(translation, "held_out_perplexity", real)
    again = carry_out("attention-alignment", tmp_path / "run", **TINY)
    for path in sorted(finished.directory.glob("*/translator.safetensors")):
        assert path.read_bytes() == (again.directory / path.parent.name / path.name).read_bytes()
    for one, other in zip(finished.claims(), again.claims()):
        assert dataclasses.asdict(one) == dataclasses.asdict(other)
    mine, theirs = (results_of(f.directory) for f in (finished, again))
    same = [path for path in mine if path.name.startswith(("aligned", "agreement", "read", "maps"))]
    assert len(same) > 20
    assert all(mine[path] == theirs[path] for path in same)


# claims, on figures made by hand


def made_up(**changes):
    """A config and figures as of models that learned everything, with one thing changed."""
    small = config(readings=module.READINGS, tests=40)
    found = results.Found()
    perfect = {
        "error": 0.0, "near_error": 0.0, "mass": 0.9, "near_mass": 1.0, "entropy": 0.1, "missed": 0.05, "repeated": 0.05,
        "tau": 1.0, "soft_tau": 0.9, "true_tau": 1.0, "tau_gap": 0.0, "offsets": [0, 0, 0, 1, 0, 0, 0], "exact": 1.0,
        "lagging": 0.1, "leading": 0.0, "strange": 0.0, "own_error": 0.0, "own_near_error": 0.0,
    }  # fmt: skip
    for seed in module.seeds_of(small):
        for name in small.variants:
            found.orders[name, seed] = [
                {"order": "copy", "count": 5, "words": n, **perfect, **changes.get("orders", {}).get(n, {})}
                for n in small.measured
            ]
        for side, readings in (("right", module.READINGS), ("left", small.mirrored)):
            for name in readings:
                right = changes.get("right", {}).get((side, name), lambda distance, last: 1.0)
                rows = [
                    [int(k < 10 * right(distance, last)), distance, last, 0]
                    for distance in (1, 2)
                    for last in (0, 1)
                    for k in range(10)
                ]
                found.agreement[side, name, seed] = {
                    "agreeing": rows, "others": changes.get("others", {}).get(name, 1.0), "last_word": 1.0, "exact": 1.0,
                }  # fmt: skip
        for name in small.readings:
            found.read[name, seed] = reading_of(name)
    for name, values in changes.get("read", {}).items():
        for seed in module.seeds_of(small):
            found.read[name, seed] = values
    return small, found


def reading_of(name, size=5):
    onward = np.tril(np.ones((size, size))) + np.eye(size)
    backward = onward.T.copy()
    if name.endswith("late"):
        backward[:, -2:] = 0
    if name == "ending":
        backward[:, -1:] = 0
    halves = [
        onward if name in ("both", "forward", "both-late") else 0 * onward,
        backward * (name != "forward"),
    ]
    return np.stack(halves, -1).tolist()


GUESSES_FAR = {
    ("right", "forward"): lambda distance, last: 1.0 if distance == 1 else 0.5,
    ("right", "late"): lambda distance, last: 0.5 if last else 1.0,
    ("right", "both-late"): lambda distance, last: 0.5 if last and distance > 1 else 1.0,
}


def held(tmp_path, **changes):
    small, found = made_up(**{"right": GUESSES_FAR, **changes})
    run = Run.open(tmp_path, experiment="attention-alignment", config=small)
    claims.state(small, run, results.Measured(small, found))
    return {claim.name: claim.holds for claim in RunFolder(tmp_path).claims()}


def test_claims_hold_of_models_that_learned_everything_but_the_sources_annotation_without_its_word(tmp_path):
    found = held(tmp_path)
    assert [name for name, holds in found.items() if not holds] == ["onward-without-its-word"]


ALL_ONES = np.ones((5, 5, 2)).tolist()


@pytest.mark.parametrize(
    ("fault", "refuted"),
    [
        ({"orders": {4: {"error": 0.2}}}, {"aligned-exactly", "own-outputs"}),
        ({"orders": {4: {"error": 0.2, "own_error": 0.2}}}, {"aligned-exactly"}),
        ({"orders": {4: {"near_error": 0.2}}}, {"aligned-next-door"}),
        ({"orders": {4: {"lagging": 0.0}}}, {"lags"}),
        ({"orders": {4: {"mass": 0.4}}}, {"mass"}),
        ({"orders": {4: {"tau_gap": 0.3}}}, {"order"}),
        ({"orders": {4: {"missed": 0.3}}}, {"coverage"}),
        ({"orders": {6: {"error": 0.5}}}, {"length-beyond"}),
        ({"orders": {6: {"near_error": 0.5}}}, {"length-beyond-next-door"}),
        ({"right": {**GUESSES_FAR, ("right", "forward"): lambda d, last: 1.0}}, {"both-ways-needed"}),
        ({"right": {**GUESSES_FAR, ("right", "forward"): lambda d, last: 0.5}}, {"attention-looks-ahead"}),
        ({"right": {**GUESSES_FAR, ("left", "forward"): lambda d, last: 0.8}}, {"mirrored-control"}),
        ({"others": {"forward": 0.8}}, {"others-control"}),
        ({"right": {**GUESSES_FAR, ("right", "late"): lambda d, last: 1.0}}, {"late-loses-the-last", "late-guesses"}),
        ({"others": {"late": 0.8}}, {"late-control"}),
        ({"right": {**GUESSES_FAR, ("right", "ending"): lambda d, last: 0.5}}, {"late-at-the-ending"}),
        ({"right": {**GUESSES_FAR, ("right", "both-late"): lambda d, last: 1.0}}, {"late-both-ways"}),
        ({"read": {"forward": ALL_ONES}}, {"onward-reads-no-further"}),
        ({"read": {"both": np.zeros((5, 5, 2)).tolist()}}, {"both-read-everything", "focus"}),
        ({"read": {"late": ALL_ONES}}, {"late-last-word-unread"}),
    ],
)  # fmt: skip
def test_each_claim_fails_if_what_it_says_is_not_so(tmp_path, fault, refuted):
    found = held(tmp_path, **fault)
    assert {name for name, holds in found.items() if not holds} == refuted | {"onward-without-its-word"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": 1}, "at least 2"),
        ({"shortest": 1}, "at least two words"),
        ({"shortest": 9}, "at least two words"),
        ({"measured": (6, 4)}, "that rise"),
        ({"measured": (6, 7)}, "between shortest and longest"),
        ({"measured": (3, 4)}, "one above"),
        ({"words": 5}, "needs as many"),
        ({"tests": 1}, "tests is 1"),
        ({"phrases": 1}, "phrases is 1"),
        ({"between": 0}, "no noun is far"),
        ({"variants": ("dot",)}, "with additive among them"),
        ({"variants": ("additive", "cosine")}, "some of additive, dot"),
        ({"variants": ("additive", "additive")}, "each once"),
        ({"readings": ("both", "forward")}, "late among them"),
        ({"mirrored": ("both",)}, "forward among them"),
        ({"hidden": 0}, "hidden is 0"),
        ({"rate": 0.0}, "learning rate"),
        ({"dropout": 1.0}, "probability"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        module.check(config(**changes))


def test_the_presets_can_work():
    for preset in module.PRESETS.values():
        module.check(preset)
        assert copy.copy(preset) == preset
