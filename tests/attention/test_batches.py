"""Batches: every pair once an epoch, the right ids and padding, little of it, and nothing but seed and step decides."""

import pickle

import numpy as np
import pytest
import torch

from fingerpost.attention import (
    EOS,
    PAD,
    Batches,
    EncodedPairs,
    ParallelText,
    WordSegmenter,
    batches,
    batches_in_order,
)
from fingerpost.errors import InvalidValueError, ShapeError


def sentences(seed, n=257):
    draw = np.random.default_rng(seed)
    return [[*draw.integers(4, 50, size=draw.integers(0, 30)).tolist(), EOS] for _ in range(n)]


SOURCE, TARGET = sentences(0), sentences(1)
PAIRS = EncodedPairs(SOURCE, TARGET)
WAYS = [{"size": 16}, {"size": 300}, {"size": 16, "sorted_batches": 1}, {"tokens": 200}, {"tokens": 5}]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other))


@pytest.mark.parametrize("way", WAYS)
def test_an_epoch_holds_every_pair_once_with_its_ids_and_padding_behind(way):
    seen = []
    for batch in batches(PAIRS, **way, seed=2, epoch=3):
        assert batch.source.dtype == batch.target.dtype == batch.rows.dtype == torch.int64
        for side, given in ((batch.source, SOURCE), (batch.target, TARGET)):
            wanted = [given[i] for i in batch.rows]
            width = max(map(len, wanted))
            assert side.tolist() == [ids + [PAD] * (width - len(ids)) for ids in wanted]
        seen += batch.rows.tolist()
    assert sorted(seen) == list(range(len(PAIRS)))


@pytest.mark.parametrize("way", WAYS)
def test_a_step_gives_the_same_batch_whatever_was_asked_before(way):
    whole = Batches(PAIRS, **way, seed=7)
    steps = [whole(k) for k in range(2 * whole.steps(0) + 3)]
    for k in (len(steps) - 1, 0, len(steps) // 2):
        assert same(Batches(PAIRS, **way, seed=7)(k), steps[k])
        assert same(whole(k), steps[k])


def test_steps_run_through_epochs_one_after_the_other():
    whole = Batches(PAIRS, tokens=200, seed=1)
    in_turn = [batch for epoch in range(3) for batch in whole.epoch(epoch)]
    assert len(in_turn) == sum(whole.steps(epoch) for epoch in range(3))
    assert all(same(whole(k), batch) for k, batch in enumerate(in_turn))
    assert whole.place(whole.steps(0)) == (1, 0)


def test_epochs_and_seeds_differ():
    rows = {
        (seed, epoch): tuple(
            torch.cat([b.rows for b in batches(PAIRS, size=16, seed=seed, epoch=epoch)]).tolist()
        )
        for seed in range(2)
        for epoch in range(2)
    }
    assert len(set(rows.values())) == 4


def test_the_number_of_steps_with_a_size_is_the_number_of_batches_of_each_epoch():
    whole = Batches(PAIRS, size=16, sorted_batches=3)
    assert {len(list(whole.epoch(epoch))) for epoch in range(4)} == {whole.steps()} == {17}


@pytest.mark.parametrize("tokens", [40, 200])
def test_a_batch_never_holds_more_ids_than_allowed_unless_it_is_one_sentence(tokens):
    for batch in batches(PAIRS, tokens=tokens):
        assert max(batch.source.numel(), batch.target.numel()) <= tokens or len(batch.rows) == 1


def test_sorting_by_length_takes_away_most_of_the_padding():
    def waste(**way):
        made = list(batches(PAIRS, size=16, **way))
        return sum((b.target == PAD).sum().item() for b in made) / sum(b.target.numel() for b in made)

    assert waste(sorted_batches=20) < 0.25 * waste(sorted_batches=1)


def test_batches_of_an_epoch_do_not_run_from_short_to_long():
    widths = [batch.target.shape[1] for batch in batches(PAIRS, size=16)]
    assert widths != sorted(widths)
    assert widths != sorted(widths, reverse=True)


def test_evaluation_reads_the_longest_sources_first_and_says_which_they_are():
    made = list(batches_in_order(PAIRS, size=50))
    rows = torch.cat([batch.rows for batch in made]).tolist()
    lengths = [len(SOURCE[i]) for i in rows]
    assert lengths == sorted(lengths, reverse=True)
    assert sorted(rows) == list(range(len(PAIRS)))


def test_batches_can_be_sent_to_another_process_and_go_on():
    whole = Batches(PAIRS, tokens=200, seed=5)
    whole(3)
    assert same(pickle.loads(pickle.dumps(whole))(60), whole(60))


def test_drawing_batches_leaves_the_global_generators_alone():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    list(batches(PAIRS, size=16))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()


def test_a_text_is_encoded_pair_by_pair_and_a_long_sentence_named():
    text = ParallelText(["a b", "a", "a b c"], ["x", "x y z", "x"])
    source, target = WordSegmenter.train(text.source), WordSegmenter.train(text.target)
    pairs = EncodedPairs.encode(text, source, target, limit=3)
    batch = pairs.batch([2, 0])
    assert source.decode(batch.source[0].tolist()) == "a b c"
    assert target.decode(batch.target[1].tolist()) == "x"
    assert pairs.source_lengths.tolist() == [3, 2, 4]
    with pytest.raises(
        InvalidValueError, match="source sentence 3 has 3 pieces and the limit is 2; 1 sentences"
    ):
        EncodedPairs.encode(text, source, target, limit=2)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: EncodedPairs([[3]], []), ShapeError, "source has 1 sentences and target 0"),
        (lambda: EncodedPairs([], []), InvalidValueError, "no pairs"),
        (
            lambda: EncodedPairs([[3], [4]], [[3], [3]]),
            InvalidValueError,
            "source sentence 2 does not end in EOS",
        ),
        (lambda: EncodedPairs([[3]], [[]]), InvalidValueError, "target sentence 1 does not end in EOS"),
        (lambda: Batches(PAIRS), InvalidValueError, "give one of the two"),
        (lambda: Batches(PAIRS, size=2, tokens=2), InvalidValueError, "give one of the two"),
        (lambda: Batches(PAIRS, size=0), InvalidValueError, "size is 0"),
        (lambda: Batches(PAIRS, tokens=-1), InvalidValueError, "tokens is -1"),
        (lambda: Batches(PAIRS, size=1, sorted_batches=0), InvalidValueError, "sorted_batches is 0"),
        (lambda: Batches(PAIRS, size=1, seed=-1), InvalidValueError, "seed is -1"),
        (lambda: Batches(PAIRS, size=1)(-1), InvalidValueError, "step is -1"),
        (lambda: list(batches(PAIRS, size=1, epoch=-1)), InvalidValueError, "epoch is -1"),
        (lambda: list(batches_in_order(PAIRS, size=0)), InvalidValueError, "size is 0"),
        (lambda: PAIRS.batch([]), InvalidValueError, "at least one of 0 to 256"),
        (lambda: PAIRS.batch([257]), InvalidValueError, r"got \[.*257"),
    ],
)
def test_bad_input_is_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()
