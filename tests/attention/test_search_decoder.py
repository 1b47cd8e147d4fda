"""The search's own way through a decoder: the same numbers as the model's step, for whatever hypotheses are alive."""

import pytest
import torch

from attention.models import KINDS, SIZES, batch, build
from fingerpost.attention import (
    BOS,
    EOS,
    PAD,
    UNK,
    AdditiveAttention,
    DotAttention,
    MultiHeadAttention,
    RNNSearch,
    beam_search,
    translate_ids,
)
from fingerpost.attention import _search_decoder as own
from fingerpost.attention import _search_model as search_model
from fingerpost.attention._search_decoder import Groups, SearchDecoder
from fingerpost.attention._search_model import _stepwise
from fingerpost.errors import NumericalError


class Sharper(AdditiveAttention):
    """A mean of values under scores of its own."""

    def score(self, query, prepared):
        return 2 * super().score(query, prepared)


class Doubled(DotAttention):
    """A context that is no mean of values."""

    def attend(self, query, prepared, values, mask):
        context, weights = super().attend(query, prepared, values, mask)
        return 2 * context.tanh(), weights


ATTENTIONS = {
    "dot": lambda: DotAttention(6, 12),
    "heads": lambda: MultiHeadAttention(6, 12, 8, heads=2),
    "sharper": lambda: Sharper(6, 12, 7),
    "doubled": lambda: Doubled(6, 12),
}
MODELS = {
    **{kind: lambda kind=kind: build(kind) for kind in KINDS},
    **{
        f"{name}-{read}": lambda make=make, read=read: build(
            f"search-before-{read}-both", attention=made(make)
        )
        for name, make in ATTENTIONS.items()
        for read in ("current", "original")
    },
}
ROWS = {
    "none lost": [[0, 0, 1, 2, 2, 2, 3], [0, 1, 2, 3, 3, 4, 5, 6, 6]],
    "some lost": [[0, 0, 2, 2, 3], [1, 0, 4, 4]],
    "as many each": [[0, 0, 1, 1, 2, 2, 3, 3], [1, 0, 3, 3, 5, 4, 7, 6]],
    "in any order": [[3, 0, 0, 2], [3, 1, 0, 2, 2, 1]],
    "one": [[2], [0, 0, 0]],
}


def made(attention):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return attention()


def close(found, wanted, tolerance=1e-12):
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


@torch.no_grad()
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("kind", MODELS)
def test_its_steps_are_the_models_whatever_hypotheses_follow(kind, rows):
    model, (source, _) = MODELS[kind]().eval(), batch()
    encoded = model.encode(source)
    step, (plain, beams) = SearchDecoder(model.decoder, encoded), _stepwise(model, encoded)
    state, previous = step.start, torch.full((4,), BOS)
    for chosen in [*rows, None]:
        logits, state, weights = step(state, previous)
        log_probs, beams, wanted = plain(beams, previous)
        close(logits.log_softmax(1), log_probs)
        assert (weights is None) == (wanted is None)
        if wanted is not None:
            close(weights, wanted)
        if chosen is not None:
            kept = torch.tensor(chosen)
            state, beams = state.select(kept), beams.select(kept)
            previous = 4 + torch.arange(len(kept)) % 9


@pytest.mark.parametrize("shrink", [True, False])
@pytest.mark.parametrize("kind", MODELS)
def test_a_search_finds_what_it_finds_by_the_models_step(kind, shrink):
    model, (source, _) = MODELS[kind]().eval(), batch()
    options = {"width": 3, "max_length": 8, "exclude": (PAD, UNK, BOS), "shrink": shrink}
    wanted = beam_search(*_stepwise(model, model.encode(source)), 4, **options)
    for those, others, row in zip(translate_ids(model, source, **options), wanted, source):
        assert [one.ids for one in those] == [one.ids for one in others]
        for one, other in zip(those, others):
            assert one.score == pytest.approx(other.score, abs=1e-10)
            if other.alignment is not None:
                close(one.alignment, other.alignment[:, : int((row != PAD).sum())], 1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_scores_are_the_forced_ones_with_any_attention(attention, dtype):
    model = MODELS[f"{attention}-current"]().to(dtype)
    source, _ = batch()
    for row, those in zip(source, translate_ids(model, source, width=4, max_length=12)):
        assert those
        for one in those:
            forced = model.log_probs(row[None], torch.tensor([one.ids])).detach()
            assert one.score == pytest.approx(
                float(forced.sum()), abs=1e-4 if dtype == torch.float32 else 1e-10
            )


@pytest.mark.parametrize("kind", ["search-before-current-both", "heads-original", "fixed-after-current-both"])
def test_order_and_padding_change_nothing(kind):
    model, (source, _) = MODELS[kind](), batch()
    found = translate_ids(model, source, width=4, max_length=9)
    order = torch.tensor([3, 1, 0, 2])
    wide = torch.nn.functional.pad(source, (0, 3))[order]
    for b, those in zip(order.tolist(), translate_ids(model, wide, width=4, max_length=9)):
        assert [one.ids for one in those] == [one.ids for one in found[b]]
        assert [one.score for one in those] == pytest.approx([one.score for one in found[b]], abs=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("room", [1, 200])
def test_how_much_is_held_at_a_time_changes_nothing(room, monkeypatch):
    model, (source, _) = build("search-before-current-both").eval(), batch()
    encoded = model.encode(source)
    whole, _, weights = (step := SearchDecoder(model.decoder, encoded))(step.start, torch.full((4,), BOS))
    monkeypatch.setattr(own, "ROOM", room)
    parts, _, others = (step := SearchDecoder(model.decoder, encoded))(step.start, torch.full((4,), BOS))
    close(parts, whole)
    close(others, weights)


def test_groups_put_every_hypothesis_at_its_sentences_place_and_back():
    counts = torch.tensor([2, 1, 3])
    groups, x = Groups.of(torch.tensor([0, 0, 1, 2, 2, 2]), counts), torch.arange(6.0)[:, None]
    table = groups.spread(x)
    assert table.shape == (3, 3, 1)
    for row, count, wanted in zip(table[..., 0].tolist(), counts.tolist(), ([0, 1], [2], [3, 4, 5])):
        assert row[:count] == wanted
    assert torch.equal(groups.gather(table), x)
    full = Groups.of(torch.tensor([0, 0, 1, 1]), torch.tensor([2, 2]))
    assert full.table is None
    assert torch.equal(full.gather(full.spread(x[:4])), x[:4])


def test_sentences_without_hypotheses_are_left_behind():
    model, (source, _) = build("search-before-current-both"), batch()
    start = SearchDecoder(model.decoder, model.encode(source)).start
    assert start.select(torch.tensor([0, 1, 1, 2, 3])).sources is start.sources
    fewer = start.select(torch.tensor([1, 3, 3]))
    assert torch.equal(fewer.sources.values, start.sources.values[[1, 3]])
    assert fewer.groups.sentence.tolist() == [0, 1, 1]


def test_nothing_is_recorded_and_no_mode_is_changed():
    model, (source, _) = build("search-before-current-both", dropout=0.5), batch()
    first, again = (translate_ids(model, source, width=2, max_length=6) for _ in range(2))
    assert [[(o.ids, o.score) for o in t] for t in first] == [[(o.ids, o.score) for o in t] for t in again]
    assert model.training
    assert not first[0][0].alignment.requires_grad


def test_a_model_with_a_step_of_its_own_is_searched_by_it(monkeypatch):
    class Other(RNNSearch):
        def step(self, encoded, state, previous):
            log_probs, state, weights = super().step(encoded, state, previous)
            return log_probs.index_fill(1, torch.tensor([7]), -torch.inf), state, weights

    model, (source, _) = Other(11, 13, attention=7, **SIZES).double(), batch()
    with torch.no_grad():
        model.decoder.output.bias[7] = 50.0
    found = translate_ids(model, source, width=2, max_length=5)
    assert all(7 not in one.ids for those in found for one in those)
    plain = build("search-before-current-both")
    monkeypatch.setattr(search_model, "SearchDecoder", None)
    with torch.autocast("cpu", torch.bfloat16):
        assert translate_ids(plain.float(), source, width=2, max_length=5)[0]


# logits in place of log-probabilities


class Alone:
    def select(self, rows):
        return self


def by_logits(table, logits, **options):
    def step(state, previous):
        return table[previous], state, None

    return beam_search(step, Alone(), 1, width=4, max_length=4, logits=logits, **options)[0]


@pytest.mark.parametrize("far", [0.0, 59.0, 400.0, -400.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_logits_give_what_their_log_softmax_gives(far, dtype):
    table = (3 * torch.randn(700, 700, generator=torch.Generator().manual_seed(0))).to(dtype)
    table[:, 9] = -torch.inf
    table = table + far
    found, wanted = by_logits(table, True), by_logits(table.double().log_softmax(1), False)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    assert [one.ids for one in found] == [one.ids for one in wanted]
    assert [o.score for o in found] == pytest.approx([o.score for o in wanted], abs=tolerance)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_logits_that_give_no_probabilities_are_refused(value):
    table = torch.zeros(600, 600)
    table[BOS] = value
    with pytest.raises(NumericalError, match="log-probability of nan"):
        by_logits(table, True)


def test_a_second_try_reads_logits_too():
    table = torch.zeros(6, 6, dtype=torch.float64)
    table[:, UNK], table[:, EOS] = 5.0, -torch.inf
    table[UNK, EOS] = 9.0
    (found, *_) = by_logits(table, True, exclude=(UNK,), retry=True)
    assert found.ids == (UNK, EOS)
    assert found.score == pytest.approx(float(table.log_softmax(1)[[BOS, UNK], [UNK, EOS]].sum()), abs=1e-12)
