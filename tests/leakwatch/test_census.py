"""The census: orphans and what is in use are told apart, and a release frees what was measured."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from fingerpost.experiments._live_bytes import LiveBytes
from fingerpost.leakwatch import LeakGuard, census, corpus
from fingerpost.leakwatch.corpus import FORMS, HARMLESS, LEAKING, Bench

VISIBLE = [form for form in LEAKING if form.step is not corpus.sliced]


@pytest.fixture(autouse=True)
def held():
    """How many rings other tests of this process still hold: what is counted here comes on top."""
    gc.collect()
    census().release()
    yield census().in_use
    census().release()


@pytest.mark.parametrize("form", [pytest.param(form, id=form.name) for form in VISIBLE])
def test_orphans_are_found_with_their_bytes_and_a_release_gives_all_back(form, held):
    bench = Bench(32, 8)
    with LiveBytes() as memory:
        form.step(bench)
        census().release()
        start = memory.now
        for _ in range(3):
            form.step(bench)
        gc.collect()
        kept = memory.now - start
        found = census()
        assert len(found.orphans) in (3, 6)  # both outputs of a Function are a ring each
        assert found.in_use == held
        assert 0 < found.nbytes <= kept
        assert found.release() == len(found.orphans)
        assert memory.now == start
    assert census().orphans == ()


def test_what_a_hidden_node_holds_is_seen_only_if_a_guard_was_there():
    bench = Bench()
    corpus.sliced(bench)
    assert census().orphans == ()
    with LiveBytes() as memory, LeakGuard("record"):
        start = memory.now
        corpus.sliced(bench)
        [orphan] = census().orphans
        assert orphan.ring == ("tensor", "CopySlices", "a view of tensor")
        assert census().release() == 1
        assert memory.now == start


def test_a_ring_that_the_program_still_holds_is_in_use_and_left_alone(held):
    bench = Bench()
    x = corpus.add_square(bench)
    found = census()
    assert (found.orphans, found.in_use) == ((), held + 1)
    assert found.release() == 0
    assert x.grad_fn is not None
    loss = x.sum()
    del x
    assert census().orphans == ()  # the loss leads to it
    node = loss.grad_fn
    del loss
    assert census().orphans == ()  # so does a node with a name
    del node
    assert len(census().orphans) == 1


def test_a_tensor_that_was_got_hold_of_after_the_census_is_not_cut():
    corpus.norm(Bench())
    found = census()
    x = found.orphans[0].reference()
    assert found.release() == 0
    assert x is not None
    assert x.grad_fn is not None


def test_a_view_that_was_used_after_its_base_changed_is_released_too():
    bench = Bench()

    def form():
        x = bench.linear(bench.data)
        column = x[:, 1]
        x[:, 0] = column**2
        return column.grad_fn is not None, weakref.ref(x)

    asked, reference = form()
    gc.collect()
    assert asked
    assert reference() is not None
    census().release()
    assert reference() is None


def test_harmless_forms_make_no_orphans(held):
    bench = Bench()
    ends = [form.step(bench) for form in HARMLESS]
    found = census()
    assert (found.orphans, found.in_use, found.nbytes) == ((), held, 0)
    assert len(ends) == len(HARMLESS)


def test_looking_makes_no_ring_and_leaves_gradients_alone():
    bench = Bench(dtype=torch.float64)
    x = FORMS["x[:, :2] *= weight"].step(bench)
    census()
    x.sum().backward()
    grad, bench.weight.grad = bench.weight.grad, None
    FORMS["x[:, :2] *= weight"].step(bench).sum().backward()
    assert torch.equal(grad, bench.weight.grad)
    reference = weakref.ref(x)
    del x
    assert reference() is None


def test_what_the_collector_can_free_is_not_counted(held):
    class Keeps(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            y = x.exp()
            ctx.y = y
            return y

        @staticmethod
        def backward(ctx, gradient):
            return gradient * ctx.y

    y = torch.ones(3, requires_grad=True)
    for _ in range(5):
        y = Keeps.apply(y)
    del y
    found = census()
    assert (found.orphans, found.in_use) == ((), held)
    assert str(found) == f"census: 0 orphans, 0 B; {held} rings in use"


def test_a_view_that_torch_refuses_to_differentiate_does_not_stop_the_census():
    bench = Bench()
    x = bench.linear(bench.data)
    with torch.no_grad():
        row = x[0]
    x += 1
    with pytest.raises(RuntimeError, match="created in no_grad mode"):
        _ = row.grad_fn
    assert census().orphans == ()
