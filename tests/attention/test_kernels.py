"""The search's and the vocabulary's hand-written ways back: derivatives by finite differences, whatever is asked of them."""

import pytest
import torch
from torch.nn import functional as F

from fingerpost.attention import _bptt_attention, _bptt_vocabulary
from fingerpost.attention._bptt_attention import Search, search
from fingerpost.attention._bptt_readout import maxout
from fingerpost.attention._bptt_unit import scan_packed
from fingerpost.attention._bptt_vocabulary import negative_log_likelihood

f64 = {"dtype": torch.float64}
SHAPES = {
    "gates": (5, 12),
    "initial": (2, 4),
    "keys": (2, 5, 3),
    "values": (2, 5, 6),
    "query": (3, 4),
    "score_vector": (3,),
    "context": (12, 6),
    "recurrent": (12, 4),
    "inner_bias": (4,),
}


def arguments(inner):
    generator = torch.Generator().manual_seed(0)
    made = {k: torch.randn(s, generator=generator, **f64).requires_grad_() for k, s in SHAPES.items()}
    excluded = torch.zeros(2, 5, **f64)
    excluded[1, 3:] = -torch.inf
    return {**made, "excluded": excluded, "inner_bias": made["inner_bias"] if inner else None}


@pytest.mark.parametrize("which", ["before", "after", "contexts", "weights", "all"])
@pytest.mark.parametrize("inner", [False, True], ids=["before", "after"])
def test_the_search_goes_back_through_each_of_its_outputs(inner, which):
    given = arguments(inner)
    names = [name for name, value in given.items() if value is not None and name != "excluded"]

    def run(*values):
        made = search(
            Search(**{**given, **dict(zip(names, values))}), [slice(0, 2), slice(2, 4), slice(4, 5)]
        )
        return tuple(made) if which == "all" else getattr(made, which)

    assert torch.autograd.gradcheck(run, [given[name] for name in names])


@pytest.mark.parametrize("near", [1, 16], ids=["a sentence", "both"])
def test_the_search_does_not_depend_on_how_many_sentences_are_looked_at_together(near, monkeypatch):
    given, slices = arguments(False), [slice(0, 2), slice(2, 4), slice(4, 5)]
    leaves = [value for name, value in given.items() if value is not None and name != "excluded"]

    def run():
        made = search(Search(**given), slices)
        return *made, *torch.autograd.grad(sum(x.cos().sum() for x in made), leaves)

    whole = run()
    monkeypatch.setattr(_bptt_attention, "NEAR", near)
    for one, other in zip(run(), whole):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("near", [1, 25], ids=["a row", "two rows"])
def test_the_likelihood_does_not_depend_on_how_much_is_near(near, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(s, generator=generator, **f64).requires_grad_() for s in ((7, 3), (11, 3), (11,))]
    target = torch.randint(11, (7,), generator=generator)

    def run():
        total = negative_log_likelihood(*given, target)
        return total, *torch.autograd.grad(total, given)

    whole = run()
    monkeypatch.setattr(_bptt_vocabulary, "NEAR", near)
    assert all(torch.equal(one, other) for one, other in zip(run(), whole))


@pytest.mark.parametrize("chunk", [1, 22, 10**6], ids=["a row", "two rows", "all"])
def test_the_likelihood_and_its_slopes_do_not_depend_on_the_chunk(chunk, monkeypatch):
    monkeypatch.setattr(_bptt_vocabulary, "CHUNK", chunk)
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(s, generator=generator, **f64).requires_grad_() for s in ((7, 3), (11, 3)))
    bias = torch.randn(11, generator=generator, **f64).requires_grad_()
    target = torch.randint(11, (7,), generator=generator)
    found = negative_log_likelihood(hidden, weight, bias, target)
    torch.testing.assert_close(
        found, F.cross_entropy(F.linear(hidden, weight, bias), target, reduction="sum")
    )
    assert torch.autograd.gradcheck(
        lambda *a: 0.3 * negative_log_likelihood(*a, target), [hidden, weight, bias]
    )


def test_the_likelihood_of_far_logits_is_finite_and_right():
    hidden = torch.tensor([[300.0], [-300.0]], requires_grad=True)
    weight, bias = torch.tensor([[5.0], [0.0], [-5.0]], requires_grad=True), torch.zeros(3)
    total = negative_log_likelihood(hidden, weight, bias, torch.tensor([0, 0]))
    assert total.item() == 3000
    by_hidden, by_weight = torch.autograd.grad(total, [hidden, weight])
    assert by_hidden.tolist() == [[0.0], [-10.0]]
    assert by_weight.tolist() == [[300.0], [0.0], [-300.0]]


def test_the_likelihood_without_slopes_is_the_same_number():
    hidden, weight, bias = torch.randn(4, 3, **f64), torch.randn(9, 3, **f64), torch.randn(9, **f64)
    target = torch.tensor([1, 0, 8, 8])
    plain = negative_log_likelihood(hidden, weight, bias, target)
    assert plain == negative_log_likelihood(hidden.requires_grad_(), weight, bias, target)
    assert not plain.requires_grad


def test_the_likelihood_goes_back_as_often_as_it_is_asked():
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(s, generator=generator, **f64).requires_grad_() for s in ((7, 3), (11, 3), (11,))]
    target = torch.randint(11, (7,), generator=generator)
    total = negative_log_likelihood(*given, target)
    first = torch.autograd.grad(2 * total, given, retain_graph=True)
    again = torch.autograd.grad(3 * total, given, retain_graph=True)
    for one, other in zip(first, again):
        torch.testing.assert_close(1.5 * one, other)


@pytest.mark.parametrize("single", [True, False])
def test_the_maxout_goes_back_through_all_that_it_is_made_of(single):
    generator = torch.Generator().manual_seed(0)
    shapes = [(8,) if single else (5, 8), (5, 3), (8, 3), (5, 2), (8, 2)]
    base, *parts = [torch.randn(s, generator=generator, **f64).requires_grad_() for s in shapes]
    pairs = base + sum(x @ w.T for x, w in zip(parts[::2], parts[1::2]))
    torch.testing.assert_close(maxout(base, *parts), torch.maximum(pairs[:, :4], pairs[:, 4:]))
    assert torch.autograd.gradcheck(maxout, [base, *parts])


@pytest.mark.parametrize("descending", [True, False], ids=["onward", "back"])
def test_a_packed_scan_goes_back_whether_sentences_end_or_begin(descending):
    generator = torch.Generator().manual_seed(0)
    gates, initial, recurrent = (
        torch.randn(s, generator=generator, **f64).requires_grad_() for s in ((6, 12), (3, 4), (12, 4))
    )
    slices = [slice(0, 3), slice(3, 5), slice(5, 6)]
    order = slices if descending else slices[::-1]
    assert torch.autograd.gradcheck(
        lambda *a: scan_packed(a[0], order, a[1], a[2], None), [gates, initial, recurrent]
    )
