"""Both models: equal to the paper's equations word by word, blind to padding, and one with their step-by-step selves."""

import pytest
import torch

from attention.direct import sentence, strip
from attention.models import KINDS, batch, build, gradients
from fingerpost.attention import (
    BOS,
    DotAttention,
    MultiHeadAttention,
    RNNEncoderDecoder,
    RNNSearch,
    TokenLosses,
)
from fingerpost.attention._bptt_readout import LEVELS, thin
from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_what_the_equations_give_word_by_word(kind, fused):
    model, (source, target) = build(kind, fused=fused), batch()
    found = model.log_probs(source, target)
    weights = model.alignments(source, target) if isinstance(model, RNNSearch) else None
    for b in range(len(source)):
        x, y = strip(source[b]), strip(target[b])
        wanted, alpha = sentence(model, x, y)
        torch.testing.assert_close(found[b, : len(y)], wanted, rtol=1e-12, atol=1e-12)
        assert (found[b, len(y) :] == 0).all()
        if weights is not None:
            torch.testing.assert_close(weights[b, : len(y), : len(x)], alpha, rtol=1e-12, atol=1e-12)
            assert (weights[b, len(y) :] == 0).all()
            assert (weights[b, :, len(x) :] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_and_its_gradient_are_those_of_autograd_through_the_plain_loops(kind):
    model, (source, target) = build(kind), batch()
    total, count = model(source, target)
    wanted = -sum(sentence(model, strip(x), strip(y))[0].sum() for x, y in zip(source, target))
    assert count == int((target != 0).sum())
    torch.testing.assert_close(total, wanted, rtol=1e-12, atol=1e-12)
    exact = gradients(model, 0.7 * wanted)
    for name, grad in gradients(model, 0.7 * total).items():
        assert exact[name] is not None, name
        torch.testing.assert_close(grad, exact[name], rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.parametrize("kind", [k for k in KINDS if "-both" in k])
def test_padding_changes_neither_the_loss_nor_any_gradient(kind):
    model, (source, target) = build(kind), batch()
    wide = torch.nn.functional.pad(source, (0, 3)), torch.nn.functional.pad(target, (0, 2))
    plain, padded = model.loss(source, target), model.loss(*wide)
    assert plain.count == padded.count
    torch.testing.assert_close(plain.total, padded.total, rtol=1e-13, atol=1e-13)
    found = gradients(model, padded.total)
    for name, grad in gradients(model, plain.total).items():
        torch.testing.assert_close(found[name], grad, rtol=1e-12, atol=1e-13, msg=name)
    assert (found["encoder.embedding.weight"][0] == 0).all()
    assert (found["decoder.embedding.weight"][0] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_step_by_step_from_selected_sentences_gives_the_forced_log_probabilities(kind):
    model, (source, target) = build(kind), batch()
    order = torch.tensor([2, 0, 0, 3])
    encoded = model.encode(source).select(order)
    assert len(encoded) == 4
    target, state, previous = target[order], encoded.initial, torch.full((4,), BOS)
    forced = model.log_probs(source[order], target)
    for i in range(target.shape[1]):
        log_probs, state, weights = model.step(encoded, state, previous)
        torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(4, dtype=torch.float64))
        here = target[:, i] != 0
        found = log_probs.gather(1, target[:, i : i + 1])[:, 0]
        torch.testing.assert_close(found[here], forced[here, i])
        assert (weights is None) == isinstance(model, RNNEncoderDecoder)
        previous = target[:, i]


def test_a_state_follows_its_hypothesis_when_it_is_selected():
    model, (source, _) = build("search-before-original-both"), batch()
    encoded = model.encode(source)
    words = torch.tensor([4, 5, 6, 7])
    _, state, _ = model.step(encoded, encoded.initial, torch.full((4,), BOS))
    rows = torch.tensor([3, 1])
    whole, _, _ = model.step(encoded, state, words)
    some, _, _ = model.step(encoded.select(rows), state.select(rows), words[rows])
    torch.testing.assert_close(some, whole[rows])


def test_the_orders_of_reading_out_differ_and_the_first_word_is_the_same_in_two_of_them():
    source, target = batch()
    found = {
        r: build(f"search-before-{r}-both").log_probs(source, target)
        for r in ("previous", "current", "original")
    }
    torch.testing.assert_close(found["previous"][:, 0], found["original"][:, 0])
    assert (found["previous"][0, 1:4] - found["original"][0, 1:4]).abs().min() > 1e-6
    assert (found["previous"][0, :4] - found["current"][0, :4]).abs().min() > 1e-6


@pytest.mark.parametrize("kind", ["search-before-current-both", "fixed-after-previous-onward"])
@pytest.mark.parametrize("fused", [True, False])
def test_the_gradient_of_each_word_by_the_source_embeddings_is_at_hand(kind, fused):
    model, (source, target) = build(kind, fused=fused), batch()
    embeddings = model.encoder.embedding(source).detach().requires_grad_()
    log_probs = model.log_probs(source, target, source_embeddings=embeddings)
    for i in range(4):
        (found,) = torch.autograd.grad(log_probs[0, i], embeddings, retain_graph=True)
        assert (found[1:] == 0).all()  # sentences do not mix
        for j in range(source.shape[1]):
            for k in range(2):  # central differences of the embedding of word j
                step = torch.zeros_like(embeddings)
                step[0, j, k] = 1e-5
                up, down = (
                    model.log_probs(source, target, source_embeddings=embeddings.detach() + sign * step)[0, i]
                    for sign in (1, -1)
                )
                assert abs((up - down) / 2e-5 - found[0, j, k]) < 1e-8


@pytest.mark.parametrize("kind", ["search-before-current-both", "fixed-after-original-onward"])
def test_dropout_draws_from_torch_and_both_paths_draw_alike_where_lengths_are_alike(kind):
    source, target = batch(((5, 4),) * 3)
    found = []
    for fused in (True, True, False):
        model = build(kind, dropout=0.5, fused=fused)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            loss = model.loss(source, target).total
        found.append((loss.detach(), gradients(model, loss)))
    assert found[0][0] == found[1][0]
    torch.testing.assert_close(found[0][0], found[2][0])
    for name, grad in found[0][1].items():
        torch.testing.assert_close(grad, found[2][1][name], rtol=1e-10, atol=1e-12, msg=name)


def test_dropout_is_for_training_alone():
    model, (source, target) = build("search-before-current-both", dropout=0.5), batch()
    assert model.loss(source, target).total != model.loss(source, target).total
    model.eval()
    assert model.loss(source, target).total == model.loss(source, target).total


@pytest.mark.parametrize("probability", [0.1, 0.3, 0.5, 0.9])
def test_thinning_leaves_out_as_many_as_asked_and_keeps_the_mean(probability):
    x = torch.ones(333, 301, dtype=torch.float64).requires_grad_()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        y = thin(x, probability)
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert (grad == y).all()
    n = x.numel()
    y, kept = y.detach(), y[y != 0].detach()
    share = float((y == 0).double().mean())
    assert abs(share - probability) < 4 * (probability * (1 - probability) / n) ** 0.5 + 1 / LEVELS
    assert (kept == kept[0]).all()
    assert abs(float(kept[0]) * (1 - probability) - 1) < 1e-3
    lanes = (y.flatten()[: n // 4 * 4].view(-1, 4) == 0).double()  # four numbers share one draw of 64 bits
    assert (lanes.mean(0) - probability).abs().max() < 5 * (probability * (1 - probability) / (n / 4)) ** 0.5
    assert (torch.corrcoef(lanes.T) - torch.eye(4)).abs().max() < 5 / (n / 4) ** 0.5


@pytest.mark.parametrize(
    "attention", [DotAttention(6, 12), MultiHeadAttention(6, 12, 8, heads=2)], ids=["dot", "heads"]
)
def test_other_attentions_take_the_same_place(attention):
    model = build("search-before-current-both", attention=attention.double())
    source, target = batch()
    weights = model.alignments(source, target)
    torch.testing.assert_close(weights.sum(2), (target != 0).double())
    assert (weights[1, :, 1:] == 0).all()
    loss = model.loss(source, target).total
    torch.testing.assert_close(loss, -model.log_probs(source, target).sum())
    assert all(grad is not None and grad.abs().max() > 0 for grad in gradients(model, loss).values())


def test_the_gradient_through_the_alignments_is_that_of_autograd():
    source, target = batch()
    found = []
    for fused in (True, False):
        model = build("search-after-current-both", fused=fused)
        found.append(gradients(model, model.alignments(source, target).square().sum()))
    for name, grad in found[0].items():
        if name.startswith(("encoder", "decoder.attention")):
            torch.testing.assert_close(grad, found[1][name], rtol=1e-10, atol=1e-13, msg=name)


def test_the_unfused_path_has_second_derivatives():
    source, target = batch(((2, 2), (1, 1)))
    model = build("search-before-current-both", fused=False)
    embeddings = model.encoder.embedding(source).detach()

    def loss(x):
        return model.log_probs(source, target, source_embeddings=x).sum()

    assert torch.autograd.gradgradcheck(loss, embeddings.requires_grad_())


def test_the_unfused_path_is_open_to_torch_func():
    source, target = batch()
    model = build("search-before-original-both", fused=False)
    embeddings = model.encoder.embedding(source).detach()

    def log_probs(x):
        return model.log_probs(source, target, source_embeddings=x)

    jacobian = torch.func.jacrev(log_probs)(embeddings)
    given = embeddings.clone().requires_grad_()
    (row,) = torch.autograd.grad(log_probs(given)[0, 2], given)
    torch.testing.assert_close(jacobian[0, 2], row)


@pytest.mark.parametrize("kind", ["search-before-current-both", "fixed-after-current-onward"])
def test_autocast_is_left_to_autograd_and_gives_nearly_the_same(kind):
    model, (source, target) = build(kind).float(), batch()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(source, target).total
    torch.testing.assert_close(loss.float(), model.loss(source, target).total, rtol=2e-2, atol=0)
    assert all(torch.isfinite(grad).all() for grad in gradients(model, loss).values())


def test_one_huge_score_gives_no_nan():
    model, (source, target) = build("search-before-current-both"), batch()
    with torch.no_grad():
        model.decoder.attention.score_vector.mul_(1e5)
        model.decoder.output.weight.mul_(1e4)
    loss = model.loss(source, target)
    assert torch.isfinite(loss.total)
    assert all(torch.isfinite(grad).all() for grad in gradients(model, loss.total).values())


def test_float32_agrees_with_float64_to_its_rounding():
    source, target = batch()
    for kind in ("search-before-current-both", "fixed-before-current-onward"):
        model = build(kind)
        exact = model.loss(source, target).total.detach()
        single = build(kind).float().loss(source, target)
        assert isinstance(single, TokenLosses)
        assert single.total.dtype == torch.float32
        torch.testing.assert_close(single.total.detach().double(), exact, rtol=3e-6, atol=0)


def test_bad_batches_are_refused_with_their_reason():
    model, (source, target) = build("search-before-current-both"), batch()
    empty = source.clone()
    empty[2] = 0
    with pytest.raises(InvalidValueError, match=r"nothing but padding in rows 2;.*drop"):
        model.loss(empty, target)
    with pytest.raises(InvalidValueError, match="target has nothing but padding"):
        model.loss(source, torch.zeros_like(target))
    with pytest.raises(
        InvalidValueError, match="ids from 0 to 11; this model's source vocabulary has ids 0 to 10"
    ):
        model.encode(source.masked_fill(source == 3, 11))
    with pytest.raises(InvalidTypeError, match=r"source is torch.int32; expected int64"):
        model.loss(source.int(), target)
    with pytest.raises(ShapeError, match=r"source has shape \(5,\); expected \(B, length\)"):
        model.encode(source[0])
    with pytest.raises(ShapeError, match="source has 4 sentences and target 3"):
        model.loss(source, target[:3])
    gap = target.clone()
    gap[0, 1] = 0
    with pytest.raises(InvalidValueError, match="target has words after padding in rows 0"):
        model.loss(source, gap)
    with pytest.raises(ShapeError, match=r"source_embeddings has shape \(4, 5, 4\); expected \(4, 5, 5\)"):
        model.log_probs(source, target, source_embeddings=torch.zeros(4, 5, 4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": 0}, "hidden is 0"),
        ({"reset": "befor"}, "did you mean 'before'"),
        ({"readout_state": "curent"}, "did you mean 'current'"),
        ({"dropout": 1.0}, r"dropout is 1.0"),
        ({"attention": DotAttention(6, 6)}, r"query_size, key_size = \(6, 6\); expected \(6, 12\)"),
    ],
)
def test_bad_arguments_are_refused_with_what_to_do(changes, message):
    with pytest.raises(InvalidValueError, match=message):
        build("search-before-current-both", **changes)
