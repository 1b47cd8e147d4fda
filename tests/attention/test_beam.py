"""Beam search: equal to enumeration and to plain loops, exact about ties, limits and what is excluded."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attention.models import KINDS, batch, build
from attention.searches import Tables, by_loops, enumerate_all, score
from fingerpost.attention import BOS, EOS, PAD, UNK, RNNSearch, beam_search, translate_ids
from fingerpost.attention._search_model import _Beams
from fingerpost.attention._search_words import best_words
from fingerpost.errors import InvalidTypeError, InvalidValueError, NumericalError, ShapeError

NONE = torch.zeros(0, dtype=torch.int64)


def search(tables, width, max_length, sentences=None, **options):
    state = tables.initial(sentences)
    return beam_search(
        tables.step, state, len(state.sentences), width=width, max_length=max_length, **options
    )


def pairs(found):
    return [(one.ids, one.score) for one in found]


def same(found, wanted):
    assert [ids for ids, _ in found] == [ids for ids, _ in wanted]
    assert [s for _, s in found] == pytest.approx([s for _, s in wanted], abs=1e-12)


@pytest.mark.parametrize("shrink", [True, False])
@pytest.mark.parametrize(("vocabulary", "length"), [(4, 4), (5, 3), (7, 3)])
def test_a_beam_that_holds_everything_gives_all_outputs_in_the_order_of_enumeration(
    vocabulary, length, shrink
):
    tables = Tables(3, vocabulary)
    found = search(tables, vocabulary**length, length, shrink=shrink)
    for sentence, those in enumerate(found):
        same(pairs(those), enumerate_all(tables, sentence, length))
        assert all(one.complete and one.alignment is None for one in those)


@pytest.mark.parametrize("shrink", [True, False])
@pytest.mark.parametrize("hole", [0.0, 0.5])
@pytest.mark.parametrize("width", [1, 2, 3, 5, 8, 30])
def test_both_rules_are_those_of_plain_loops(width, hole, shrink):
    tables = Tables(6, 6, seed=width, hole=hole)
    for length in (1, 2, 6):
        found = search(tables, width, length, shrink=shrink, exclude=(PAD, UNK))
        for sentence, those in enumerate(found):
            ended, cut = by_loops(tables, sentence, width, length, shrink=shrink, exclude=(PAD, UNK))
            same(pairs(those), ended or cut)
            assert all(one.complete == bool(ended) for one in those)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 7),
    st.integers(4, 9),
    st.integers(1, 6),
    st.booleans(),
    st.integers(2, 4),
)
def test_equal_sums_are_ordered_by_hypothesis_and_word(seed, width, vocabulary, length, shrink, levels):
    tables = Tables(2, vocabulary, seed=seed, levels=levels)
    for sentence, those in enumerate(search(tables, width, length, shrink=shrink)):
        ended, cut = by_loops(tables, sentence, width, length, shrink=shrink)
        assert pairs(those) == (ended or cut)


@pytest.mark.parametrize("shrink", [True, False])
def test_what_else_is_in_the_batch_and_in_what_order_changes_nothing(shrink):
    tables = Tables(5, 8, hole=0.3)
    together = search(tables, 3, 7, shrink=shrink)
    order = [3, 0, 4, 1, 2]
    for sentence, those in zip(order, search(tables, 3, 7, order, shrink=shrink)):
        assert pairs(those) == pairs(together[sentence])
        assert pairs(those) == pairs(search(tables, 3, 7, [sentence], shrink=shrink)[0])


def test_width_1_is_greedy():
    tables = Tables(4, 9)
    for sentence, (found,) in enumerate(search(tables, 1, 50)):
        ids = ()
        while len(ids) < 50 and ids[-1:] != (EOS,):
            ids += (int(tables.row(sentence, ids).argmax()),)
        assert found.ids == ids
        assert found.score == pytest.approx(score(tables, sentence, ids), abs=1e-12)


def test_the_shrinking_beam_gives_no_more_outputs_than_its_width_and_each_costs_a_place():
    table = torch.tensor([0.01, 0.01, 0.01, 0.5, 0.27, 0.2], dtype=torch.float64).log()

    def step(state, previous):
        return table.expand(len(previous), -1), state, None

    state = Rows(torch.zeros(1))
    (shrunk,) = beam_search(step, state, 1, width=3, max_length=9)
    # the end, then [4, end] and [5, end] of the two places left
    assert [one.ids for one in shrunk] == [(EOS,), (4, EOS), (5, EOS)]
    (usual,) = beam_search(step, state, 1, width=3, max_length=9, shrink=False)
    assert [one.ids for one in usual] == [(EOS,), (4, EOS), (5, EOS)]
    (alone,) = beam_search(step, state, 1, width=1, max_length=9)
    assert [one.ids for one in alone] == [(EOS,)]


class Rows:
    """A state of one tensor."""

    def __init__(self, x):
        self.x = x

    def select(self, rows):
        return Rows(self.x[rows])


def test_a_wider_usual_beam_is_never_worse_where_words_depend_on_their_place_alone():
    for seed in range(30):
        tables = Tables(1, 6, seed=seed, memory=False)
        best = [search(tables, width, 6, shrink=False)[0] for width in range(1, 12)]
        # where none ends before the limit there is no output to compare
        scores = [those[0].score for those in best if those and those[0].complete]
        assert all(b >= a - 1e-12 for a, b in itertools.pairwise(scores))
        assert len(scores) >= 5


def test_a_wider_beam_can_be_worse_where_words_depend_on_what_came_before():
    found = 0
    for seed in range(60):
        tables = Tables(1, 6, seed=seed)
        best = [search(tables, width, 6, shrink=False)[0][0].score for width in (1, 2, 3, 4)]
        found += any(b < a - 1e-9 for a, b in itertools.pairwise(best))
    assert found


@pytest.mark.parametrize("shrink", [True, False])
def test_excluded_words_never_appear_and_all_else_is_as_if_they_had_no_probability(shrink):
    tables = Tables(4, 7)
    found = search(tables, 4, 6, shrink=shrink, exclude=[5, 0, 5])
    without = Tables(4, 7)
    for those in found:
        assert those
        assert not {0, 5} & {word for one in those for word in one.ids}

    def step(state, previous):
        log_probs, state, _ = without.step(state, previous)
        log_probs[:, [0, 5]] = -torch.inf
        return log_probs, state, None

    wanted = beam_search(step, without.initial(), 4, width=4, max_length=6, shrink=shrink)
    assert [pairs(a) for a in found] == [pairs(b) for b in wanted]


@pytest.mark.parametrize("shrink", [True, False])
def test_a_step_functions_log_probabilities_stay_as_they_are(shrink):
    table = torch.randn(7).log_softmax(0)
    kept = table.clone()
    beam_search(
        lambda state, previous: (table.expand(len(previous), -1), state, None),
        Rows(torch.zeros(2)),
        2,
        width=3,
        max_length=5,
        exclude=(1, 2),
        minimum_length=2,
        shrink=shrink,
    )
    assert torch.equal(table, kept)


@pytest.mark.parametrize("shrink", [True, False])
def test_where_everything_is_excluded_or_impossible_there_is_no_output(shrink):
    tables = Tables(2, 5)
    assert search(tables, 3, 4, shrink=shrink, exclude=range(5)) == [[], []]

    def nothing(state, previous):
        return torch.full((len(previous), 5), -torch.inf), state, None

    assert beam_search(nothing, Rows(torch.zeros(2)), 2, width=3, max_length=4, shrink=shrink) == [[], []]


@pytest.mark.parametrize("shrink", [True, False])
def test_without_an_end_hypotheses_are_cut_at_the_maximum_and_say_so(shrink):
    tables = Tables(3, 6)
    for sentence, those in enumerate(search(tables, 4, 5, shrink=shrink, exclude=(EOS,))):
        assert len(those) == 4
        for one in those:
            assert not one.complete
            assert len(one.ids) == 5
            assert one.score == pytest.approx(score(tables, sentence, one.ids), abs=1e-12)


def test_an_empty_batch_gives_an_empty_list():
    def never(state, previous):
        raise AssertionError("there is nothing to step")

    assert beam_search(never, Rows(torch.zeros(0)), 0, width=3, max_length=4) == []
    assert beam_search(never, Rows(torch.zeros(0)), 0, width=3, max_length=[]) == []


@pytest.mark.parametrize("shrink", [True, False])
def test_each_sentence_has_its_own_limits(shrink):
    tables = Tables(4, 5)
    longest, least = [1, 3, 5, 6], [0, 2, 1, 4]
    found = search(tables, 6, longest, shrink=shrink, minimum_length=least)
    for sentence, those in enumerate(found):
        ended, cut = by_loops(tables, sentence, 6, longest[sentence], shrink=shrink, least=least[sentence])
        same(pairs(those), ended or cut)
        assert all(least[sentence] < len(one.ids) <= longest[sentence] for one in those)


def test_division_by_the_length_reorders_outputs_and_leaves_their_scores():
    tables = Tables(5, 6, seed=3)
    plain = search(tables, 6, 7, shrink=False)
    divided = search(tables, 6, 7, shrink=False, normalize="length")
    moved = 0
    for a, b in zip(plain, divided):
        assert sorted(pairs(a)) == sorted(pairs(b))
        means = [one.score / len(one.ids) for one in b]
        assert means == sorted(means, reverse=True)
        moved += pairs(a) != pairs(b)
    assert moved


def test_a_second_try_allows_excluded_words_only_where_the_first_found_nothing_that_ends():
    tables = Tables(2, 6)
    tables.known[1, ()] = torch.tensor([0.1, 0.9, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64).log()
    first = search(tables, 2, 8, exclude=(PAD, UNK))
    assert [one.complete for one in first[0]] == [True, True]
    assert first[1] == []
    again = search(tables, 2, 8, exclude=(PAD, UNK), retry=(UNK,))
    assert pairs(again[0]) == pairs(first[0])
    assert pairs(again[1]) == pairs(search(tables, 2, 8, [1], exclude=(PAD,))[0])
    assert again[1][0].ids[0] == UNK
    every = search(tables, 2, 8, exclude=(PAD, UNK), retry=True)
    assert pairs(every[1]) == pairs(search(tables, 2, 8, [1])[0])


def test_weights_follow_their_hypotheses():
    tables = Tables(3, 6)

    def step(state, previous):
        log_probs, state, _ = tables.step(state, previous)
        weights = torch.tensor([[float(b), len(w), sum(w)] for b, w in zip(state.sentences, state.words)])
        return log_probs, state, weights

    found = beam_search(step, tables.initial(), 3, width=4, max_length=6)
    for sentence, those in enumerate(found):
        for one in those:
            wanted = [[sentence, i, sum(one.ids[:i])] for i in range(len(one.ids))]
            assert one.alignment.tolist() == wanted


# words in order


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 60), st.integers(1, 9), st.booleans())
def test_the_best_words_are_those_of_a_stable_sort(seed, rows, vocabulary, count, bar):
    generator = torch.Generator().manual_seed(seed)
    values = -torch.randint(0, 6, (rows, vocabulary), generator=generator).double()
    values[torch.rand(rows, vocabulary, generator=generator) < 0.2] = -torch.inf
    excluded = torch.randperm(vocabulary, generator=generator)[: vocabulary // 3]
    barred = torch.rand(rows, generator=generator) < 0.5 if bar else None
    found, words = best_words(values, count, excluded, 0, barred)
    exact = values.clone()
    exact[:, excluded] = -torch.inf
    if barred is not None:
        exact[barred, 0] = -torch.inf
    wanted, order = exact.sort(dim=1, descending=True, stable=True)
    count = min(count, vocabulary)
    assert torch.equal(found, wanted[:, :count])
    real = found > -torch.inf
    assert torch.equal(words[real], order[:, :count][real])


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("vocabulary", [480, 601, 1007])
def test_the_best_words_of_large_vocabularies_are_those_of_a_stable_sort(vocabulary, ties):
    generator = torch.Generator().manual_seed(vocabulary)
    values = -torch.rand(200, vocabulary, generator=generator, dtype=torch.float64)
    if ties:
        values = (40 * values).round()
    values[:50, -3:] += 0.9  # the columns that no block holds
    excluded = torch.tensor([0, 7, vocabulary - 1])
    found, words = best_words(values, 5, excluded, 3, None)
    exact = values.index_fill(1, excluded, -torch.inf)
    wanted, order = exact.sort(dim=1, descending=True, stable=True)
    assert torch.equal(found, wanted[:, :5])
    assert torch.equal(words, order[:, :5])


# models


def test_as_many_hypotheses_of_other_sentences_have_those_sentences_before_them():
    model, (source, _) = build("search-before-current-both"), batch()
    encoded = model.encode(source)
    beams = _Beams(encoded, torch.arange(4), encoded.initial)
    same_rows, others = beams.select(torch.arange(4)), beams.select(torch.tensor([0, 0, 1, 3]))
    assert same_rows.encoded is encoded
    assert torch.equal(others.encoded.states, encoded.states[[0, 0, 1, 3]])
    assert torch.equal(others.state.hidden, encoded.initial.hidden[[0, 0, 1, 3]])
    assert others.sentence.tolist() == [0, 0, 1, 3]


@pytest.mark.parametrize("shrink", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_and_alignments_are_those_of_the_forced_pass(kind, shrink):
    model, (source, _) = build(kind), batch()
    found = translate_ids(model, source, width=3, shrink=shrink, max_length=6)
    for row, those in zip(source, found):
        assert those
        for one in those:
            target = torch.tensor([one.ids])
            forced = model.log_probs(row[None], target)
            assert one.score == pytest.approx(float(forced.detach().sum()), abs=1e-10)
            if isinstance(model, RNNSearch):
                wanted = model.alignments(row[None][:, row != PAD], target)[0].detach()
                torch.testing.assert_close(one.alignment, wanted, rtol=1e-10, atol=1e-12)
            else:
                assert one.alignment is None


def test_scores_in_float32_are_the_forced_ones_within_1e_4():
    model, (source, _) = build("search-before-current-both").float(), batch()
    for row, those in zip(source, translate_ids(model, source, width=4, max_length=30)):
        for one in those:
            forced = model.log_probs(row[None], torch.tensor([one.ids]))
            assert one.score == pytest.approx(float(forced.detach().sum()), abs=1e-4)


@pytest.mark.parametrize("kind", ["search-before-original-both", "fixed-after-previous-onward"])
def test_padding_and_the_order_of_sentences_change_nothing_in_a_models_search(kind):
    model, (source, _) = build(kind), batch()
    found = translate_ids(model, source, width=3, max_length=7)
    order = torch.tensor([2, 0, 3, 1])
    wide = torch.nn.functional.pad(source, (0, 4))[order]
    for b, those in zip(order.tolist(), translate_ids(model, wide, width=3, max_length=7)):
        same(pairs(those), pairs(found[b]))
        alone = translate_ids(model, source[b : b + 1], width=3, max_length=7)
        same(pairs(alone[0]), pairs(found[b]))


# what is refused


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (InvalidValueError, {"width": 0}),
        (InvalidTypeError, {"width": 1.5}),
        (InvalidTypeError, {"width": True}),
        (InvalidValueError, {"max_length": 0}),
        (InvalidTypeError, {"max_length": [2.5, 1]}),
        (ShapeError, {"max_length": [1, 2, 3]}),
        (InvalidValueError, {"minimum_length": -1}),
        (InvalidValueError, {"minimum_length": 5}),
        (ShapeError, {"minimum_length": [1]}),
        (InvalidValueError, {"normalize": "sum"}),
        (InvalidValueError, {"eos": 9}),
        (InvalidValueError, {"exclude": (-1,)}),
        (InvalidValueError, {"exclude": (6,)}),
    ],
)
def test_wrong_settings_are_refused(error, options):
    tables = Tables(2, 6)
    with pytest.raises(error):
        beam_search(tables.step, tables.initial(), 2, **{"width": 2, "max_length": 5, **options})


@pytest.mark.parametrize("batch", [-1, True, 2.0])
def test_a_wrong_number_of_sentences_is_refused(batch):
    tables = Tables(2, 6)
    with pytest.raises(InvalidValueError, match="batch is"):
        beam_search(tables.step, tables.initial(), batch, width=2, max_length=5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_log_probabilities_that_are_no_numbers_are_refused(value):
    table = torch.tensor([-1.0, -2.0, value, -3.0, -4.0])
    with pytest.raises(NumericalError, match="log-probability"):
        beam_search(
            lambda state, previous: (table.expand(len(previous), -1), state, None),
            Rows(torch.zeros(1)),
            1,
            width=1,
            max_length=3,
        )


@pytest.mark.parametrize(
    ("log_probs", "weights"),
    [((5,), None), ((1, 5), None), ((2, 0), None), ((2, 5), (1, 3)), ((2, 5), (2,))],
)
def test_wrong_shapes_from_a_step_are_refused(log_probs, weights):
    def step(state, previous):
        return torch.zeros(log_probs), state, None if weights is None else torch.zeros(weights)

    with pytest.raises(ShapeError, match="step returned"):
        beam_search(step, Rows(torch.zeros(2)), 2, width=1, max_length=3)


def test_the_first_word_is_fed_the_beginning():
    seen = []

    def step(state, previous):
        seen.append(previous.tolist())
        return torch.eye(6)[torch.full_like(previous, EOS)].log(), state, None

    beam_search(step, Rows(torch.zeros(2)), 2, width=2, max_length=4)
    beam_search(step, Rows(torch.zeros(1)), 1, width=2, max_length=4, bos=4)
    assert seen == [[BOS, BOS], [4]]
