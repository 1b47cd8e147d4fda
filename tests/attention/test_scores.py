"""Attention of every kind: weights that sum to 1, padding left out, any leading axes; the additive one by a plain loop."""

import math

import pytest
import torch

from fingerpost.attention import AdditiveAttention, DotAttention, MultiHeadAttention
from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError

f64 = {"dtype": torch.float64}
ATTENTIONS = {
    "additive": lambda: AdditiveAttention(3, 4, 5),
    "dot": lambda: DotAttention(3, 4),
    "heads": lambda: MultiHeadAttention(3, 4, 6, heads=2),
    "one-head": lambda: MultiHeadAttention(3, 4, 6, heads=1),
}


def case(name, *leading):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        attention = ATTENTIONS[name]().double()
        query, keys = torch.randn(*leading, 3, **f64), torch.randn(*leading, 6, 4, **f64)
        mask = torch.rand(*leading, 6) < 0.6
    mask[..., 0] = True
    return attention, query, keys, mask


@pytest.mark.parametrize("name", ATTENTIONS)
def test_weights_are_a_distribution_over_what_is_no_padding(name):
    attention, query, keys, mask = case(name, 2, 5)
    context, weights = attention(query, keys, mask)
    assert context.shape == (2, 5, 4)
    assert (weights >= 0).all()
    assert (weights[~mask] == 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 5, **f64))


@pytest.mark.parametrize("name", ATTENTIONS)
def test_every_row_is_looked_up_alone_and_as_if_padding_were_not_there(name):
    attention, query, keys, mask = case(name, 2, 5)
    context, weights = attention(query, keys, mask)
    for i in range(2):
        for j in range(5):
            here = mask[i, j]
            alone, by = attention(query[i, j], keys[i, j, here])
            torch.testing.assert_close(context[i, j], alone)
            torch.testing.assert_close(weights[i, j, here], by)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_many_queries_share_keys_by_broadcasting(name):
    attention, query, keys, mask = case(name, 2)
    queries = torch.stack([query, 2 * query, -query], 1)
    context, weights = attention(queries, keys[:, None], mask[:, None])
    for k in range(3):
        alone, by = attention(queries[:, k], keys, mask)
        torch.testing.assert_close(context[:, k], alone)
        torch.testing.assert_close(weights[:, k], by)


@pytest.mark.parametrize("name", ["additive", "dot"])
def test_values_may_be_others_than_the_keys(name):
    attention, query, keys, mask = case(name, 2)
    values = torch.randn(2, 6, 7, generator=torch.Generator().manual_seed(3), **f64)
    context, weights = attention(query, keys, mask, values)
    torch.testing.assert_close(context, torch.einsum("bs,bsv->bv", weights, values))
    torch.testing.assert_close(weights, attention(query, keys, mask)[1])


def test_additive_attention_is_the_papers_formula_number_by_number():
    attention, query, keys, mask = case("additive", 2)
    context, weights = attention(query, keys, mask)
    w, u, v = (p.tolist() for p in (attention.query.weight, attention.key.weight, attention.score_vector))
    for b in range(2):
        q, h = query[b].tolist(), keys[b].tolist()
        odds = []
        for j in range(6):
            e = 0.0
            for k in range(5):
                inside = sum(w[k][i] * q[i] for i in range(3)) + sum(u[k][i] * h[j][i] for i in range(4))
                e += v[k] * math.tanh(inside)
            odds.append(math.exp(e) if mask[b, j] else 0.0)
        alpha = [o / sum(odds) for o in odds]
        assert weights[b].tolist() == pytest.approx(alpha, rel=1e-13)
        mean = [sum(alpha[j] * h[j][i] for j in range(6)) for i in range(4)]
        assert context[b].tolist() == pytest.approx(mean, rel=1e-12)


def test_dot_attention_is_a_scaled_product():
    attention, query, keys, _ = case("dot", 2)
    _, weights = attention(query, keys)
    projected = torch.einsum("qk,bsk->bsq", attention.key.weight, keys)
    wanted = (torch.einsum("bq,bsq->bs", query, projected) / math.sqrt(3)).softmax(1)
    torch.testing.assert_close(weights, wanted)


def test_multi_head_attention_is_torchs_own():
    attention, query, keys, mask = case("heads", 2)
    theirs = torch.nn.MultiheadAttention(6, 2, bias=False, batch_first=True).double()
    with torch.no_grad():  # torch's takes queries, keys and values of its size: give it the projected ones
        theirs.in_proj_weight.copy_(torch.eye(6, **f64).repeat(3, 1))
        theirs.out_proj.weight.copy_(torch.eye(6, **f64))
    q, k, v = attention.query(query)[:, None], attention.key(keys), attention.value(keys)
    wanted, by = theirs(q, k, v, key_padding_mask=~mask)
    context, weights = attention(query, keys, mask)
    torch.testing.assert_close(context, attention.output(wanted[:, 0]))
    torch.testing.assert_close(weights, by[:, 0])


@pytest.mark.parametrize("name", ATTENTIONS)
def test_gradients_are_finite_where_most_is_padding(name):
    attention, query, keys, mask = case(name, 3)
    mask[1, 1:] = False
    keys.requires_grad_()
    context, _ = attention(query, keys, mask)
    (grad,) = torch.autograd.grad(context.square().sum(), keys)
    assert torch.isfinite(grad).all()
    assert (grad[~mask] == 0).all()


def test_bad_calls_are_refused():
    attention, query, keys, mask = case("additive", 2)
    with pytest.raises(ShapeError, match=r"query has shape \(2, 6, 4\); expected \(…, 3\)"):
        attention(keys, keys)
    with pytest.raises(ShapeError, match=r"mask has shape \(2, 5\) and keys \(2, 6, 4\)"):
        attention(query, keys, mask[:, :5])
    with pytest.raises(InvalidTypeError, match=r"mask is torch\.float64; expected torch.bool"):
        attention(query, keys, mask.double())
    with pytest.raises(ShapeError, match="one value a key"):
        attention(query, keys, mask, keys[:, :5])
    mask[1] = False
    with pytest.raises(InvalidValueError, match="mask has nothing but padding in rows 1"):
        attention(query, keys, mask)
    with pytest.raises(InvalidValueError, match="project=True"):
        DotAttention(3, 4, project=False)
    with pytest.raises(InvalidValueError, match="multiple of the heads"):
        MultiHeadAttention(3, 4, 6, heads=4)
