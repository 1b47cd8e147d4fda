"""λ-returns and advantages against plain loops, their derivatives to second order, ends and cuts, bad input."""

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.td import _scan, generalized_advantage, lambda_return
from fingerpost.td._scan import recurrence

few = hypothesis.settings(max_examples=40, deadline=None)
float64 = torch.float64


def case(shape, seed=0, ends=0.2, dtype=float64):
    generator = torch.Generator().manual_seed(seed)
    r = torch.randn(shape, generator=generator, dtype=dtype)
    v = torch.randn((*shape[:-1], shape[-1] + 1), generator=generator, dtype=dtype)
    done = torch.rand(shape, generator=generator) < ends
    return r, v, done


def by_loop(r, following, done, gamma, lam, cut=None):
    """The recursion as it is written."""
    result, after = torch.empty_like(r), following[..., -1]
    for t in range(r.shape[-1] - 1, -1, -1):
        mixed = (1 - lam) * following[..., t] + lam * after
        if cut is not None:
            mixed = torch.where(cut[..., t], following[..., t], mixed)
        after = r[..., t] + gamma * torch.where(done[..., t], 0.0, mixed)
        result[..., t] = after
    return result


@few
@hypothesis.given(
    st.integers(1, 300),
    st.integers(0, 2**20),
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from([0.0, 0.005, 0.1, 1.0]),
)
def test_returns_are_the_plain_recursion(length, seed, gamma, lam, ends):
    r, v, done = case((3, length), seed, ends)
    found = lambda_return(r, v, done, gamma, lam)
    torch.testing.assert_close(found, by_loop(r, v[..., 1:], done, gamma, lam), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("shape", [(1,), (64,), (65,), (5000,), (2, 3, 130), (1, 4099), (300, 2)])
def test_any_leading_shape_and_any_length(shape):
    r, v, done = case(shape)
    expected = by_loop(r, v[..., 1:], done, 0.99, 0.95)
    torch.testing.assert_close(lambda_return(r, v, done, 0.99, 0.95), expected, rtol=1e-11, atol=1e-12)
    advantages, returns = generalized_advantage(r, v, done, 0.99, 0.95)
    torch.testing.assert_close(returns, expected, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(advantages, expected - v[..., :-1], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("ends", [0.0, 0.002, 0.02, 0.3])
@pytest.mark.parametrize("shape", [(5, 1024), (1, 4099), (40, 65), (3, 33)])
def test_steps_of_all_blocks_and_products_of_matrices_give_the_same(shape, ends, monkeypatch):
    r, v, done = case(shape, ends=ends)
    found = lambda_return(r, v, done, 0.99, 0.95)
    monkeypatch.setattr(_scan, "_products_suit", lambda a, c: False)
    torch.testing.assert_close(lambda_return(r, v, done, 0.99, 0.95), found, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(by_loop(r, v[..., 1:], done, 0.99, 0.95), found, rtol=1e-11, atol=1e-12)


def test_products_are_left_alone_where_they_may_be_loosened(monkeypatch):
    a, c = torch.ones(2, 3), torch.tensor(0.5)
    assert _scan._products_suit(a, c)
    assert not _scan._products_suit(a, a)
    assert not _scan._products_suit(a.bfloat16(), c)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    assert not _scan._products_suit(a, c)
    assert _scan._products_suit(a.double(), c.double())


def test_no_ends_may_be_none_or_all_false():
    r, v, done = case((4, 200), ends=0.0)
    assert torch.equal(lambda_return(r, v, None, 0.9, 0.8), lambda_return(r, v, done, 0.9, 0.8))


def test_at_lambda_zero_it_is_one_step_and_at_lambda_one_the_discounted_sum():
    r, v, _ = case((2, 50))
    torch.testing.assert_close(lambda_return(r, v, None, 0.9, 0.0), r + 0.9 * v[:, 1:])
    powers = 0.9 ** torch.arange(50, dtype=float64)
    first = (powers * r).sum(1) + 0.9**50 * v[:, -1]
    torch.testing.assert_close(lambda_return(r, v, None, 0.9, 1.0)[:, 0], first)


def test_the_next_value_of_an_end_is_not_looked_at_even_if_it_is_nan():
    r, v, done = case((3, 100))
    done[:, -1] = True
    following = torch.where(done, float("nan"), v[:, 1:])
    found = lambda_return(r, v[:, :-1], done, 0.9, 0.8, next_values=following)
    torch.testing.assert_close(found, lambda_return(r, v, done, 0.9, 0.8))
    advantages, _ = generalized_advantage(r, v[:, :-1], done, 0.9, 0.8, next_values=following)
    torch.testing.assert_close(advantages, found - v[:, :-1])


def test_a_cut_takes_the_next_value_and_nothing_beyond():
    r, v, done = case((3, 120), ends=0.05)
    cut = torch.rand(3, 120, generator=torch.Generator().manual_seed(9)) < 0.1
    other = torch.randn(3, 120, dtype=float64, generator=torch.Generator().manual_seed(8))
    following = torch.where(cut, other, v[:, 1:])
    found = lambda_return(r, v, done, 0.9, 0.7, next_values=following, truncated=cut)
    expected = by_loop(r, following, done, 0.9, 0.7, cut)
    torch.testing.assert_close(found, expected)
    advantages, returns = generalized_advantage(r, v, done, 0.9, 0.7, next_values=following, truncated=cut)
    torch.testing.assert_close(returns, expected)
    torch.testing.assert_close(advantages, expected - v[:, :-1])
    only = cut & ~done
    torch.testing.assert_close(found[only], (r + 0.9 * following)[only])


def test_pieces_of_a_cut_batch_are_those_of_each_alone():
    r, v, _ = case((2, 90))
    cut = torch.zeros(2, 90, dtype=torch.bool)
    cut[:, 39] = True
    whole = lambda_return(r, v[:, :-1], None, 0.9, 0.7, next_values=v[:, 1:], truncated=cut)
    torch.testing.assert_close(whole[:, :40], lambda_return(r[:, :40], v[:, :41], None, 0.9, 0.7))
    torch.testing.assert_close(whole[:, 40:], lambda_return(r[:, 40:], v[:, 40:], None, 0.9, 0.7))


def test_gamma_and_lambda_may_differ_by_row_and_step():
    r, v, done = case((3, 70))
    generator = torch.Generator().manual_seed(4)
    for shape in [(), (70,), (3, 1), (3, 70)]:
        gamma, lam = (torch.rand(shape, generator=generator, dtype=float64) for _ in range(2))
        found = lambda_return(r, v, done, gamma, lam)
        after = v[:, -1]
        for t in range(69, -1, -1):
            g, l = gamma.expand(3, 70)[:, t], lam.expand(3, 70)[:, t]
            after = r[:, t] + g * torch.where(done[:, t], 0.0, (1 - l) * v[:, t + 1] + l * after)
            torch.testing.assert_close(found[:, t], after)


@pytest.mark.parametrize("ends", [0.0, 0.3])
@pytest.mark.parametrize("tensors", [False, True])
def test_derivatives_are_right_to_second_order(ends, tensors):
    r, v, done = case((2, 9), ends=ends)
    gamma, lam = torch.tensor(0.9, dtype=float64), torch.tensor(0.8, dtype=float64)
    inputs = [t.requires_grad_() for t in ((r, v, gamma, lam) if tensors else (r, v))]

    def function(r, v, gamma=0.9, lam=0.8):
        return lambda_return(r, v, done, gamma, lam), *generalized_advantage(r, v, done, gamma, lam)

    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("stops", [False, True])
def test_the_recurrences_derivatives_are_right_across_blocks(full, stops):
    generator = torch.Generator().manual_seed(0)
    a, end = (torch.randn(s, generator=generator, dtype=float64, requires_grad=True) for s in ((1, 70), (1,)))
    c = torch.rand((1, 70) if full else (), generator=generator, dtype=float64, requires_grad=True)
    stop = torch.rand(1, 70, generator=generator) < 0.1 if stops else None
    assert torch.autograd.gradcheck(lambda a, c, end: recurrence(a, c, end, stop), (a, c, end))
    assert torch.autograd.gradgradcheck(lambda a, c, end: recurrence(a, c, end, stop)[:, ::9], (a, c, end))


def test_vmap_gives_each_members_returns_and_derivatives():
    r, v, done = case((4, 3, 80))
    found = torch.func.vmap(lambda r, v, d: lambda_return(r, v, d, 0.9, 0.8))(r, v, done)
    torch.testing.assert_close(found, lambda_return(r, v, done, 0.9, 0.8))
    lams = torch.linspace(0, 1, 4, dtype=float64)
    grids = torch.func.vmap(lambda lam: lambda_return(r[0], v[0], done[0], 0.9, lam))(lams)
    for lam, grid in zip(lams, grids):
        torch.testing.assert_close(grid, lambda_return(r[0], v[0], done[0], 0.9, float(lam)))

    def first(lam, v):
        return lambda_return(r[0], v, done[0], 0.9, lam)[0, 0]

    slopes = torch.func.vmap(torch.func.grad(first), (0, None))(lams, v[0])
    for lam, slope in zip(lams, slopes):
        lam = lam.clone().requires_grad_()
        torch.testing.assert_close(torch.autograd.grad(first(lam, v[0]), lam)[0], slope)


@pytest.mark.parametrize("ends", [0.0, 0.001, 0.1])
def test_float32_is_within_a_few_roundings_of_float64(ends):
    r, v, done = case((8, 4096), ends=ends)
    exact = lambda_return(r, v, done, 0.999, 0.98)
    single = lambda_return(r.float(), v.float(), done, 0.999, 0.98)
    assert single.dtype == torch.float32
    assert (single - exact).abs().max() < 4 * 2**-23 * exact.abs().max()


def test_numbers_for_ends_and_integer_rewards_and_other_layouts_are_taken():
    r, v, done = case((3, 100))
    expected = lambda_return(r, v, done, 0.9, 0.8)
    torch.testing.assert_close(lambda_return(r, v, done.double(), 0.9, 0.8), expected)
    turned = [t.T.contiguous().T for t in (r, v, done)]
    torch.testing.assert_close(lambda_return(*turned, 0.9, 0.8), expected)
    whole = lambda_return(torch.ones(3, 100, dtype=torch.int64), v, done, 0.9, 0.8)
    torch.testing.assert_close(whole, lambda_return(torch.ones(3, 100, dtype=float64), v, done, 0.9, 0.8))


def test_inputs_are_not_changed():
    r, v, done = case((3, 100))
    before = [t.clone() for t in (r, v, done)]
    lambda_return(r, v, done, 0.9, 0.8)
    generalized_advantage(r, v, done, 0.9, 0.8)
    assert all(torch.equal(a, b) for a, b in zip(before, (r, v, done)))


def test_scipys_filter_gives_the_same_without_ends():
    from scipy.signal import lfilter

    r, v, _ = case((500,))
    a = (r + 0.99 * 0.05 * v[1:]).numpy()
    a[-1] += 0.99 * 0.95 * float(v[-1])
    expected = lfilter([1.0], [1.0, -0.99 * 0.95], a[::-1])[::-1]
    np.testing.assert_allclose(lambda_return(r, v, None, 0.99, 0.95), expected, rtol=1e-11)


R, V, D = torch.ones(2, 5), torch.ones(2, 6), torch.zeros(2, 5, dtype=torch.bool)


@pytest.mark.parametrize("function", [lambda_return, generalized_advantage])
@pytest.mark.parametrize(
    ("arguments", "settings", "error", "said"),
    [
        ((R, V, D, 1.1, 0.5), {}, InvalidValueError, r"gamma is 1.1; expected a number in \[0, 1\]"),
        ((R, V, D, 0.5, -0.1), {}, InvalidValueError, "lam is -0.1"),
        ((R, V, D, 0.5, torch.tensor(1.5)), {}, InvalidValueError, "lam reaches from 1.5"),
        ((R, V, D, torch.tensor(float("nan")), 0.5), {}, InvalidValueError, "gamma reaches from nan"),
        ((R, V, D, torch.ones(4), 0.5), {}, ShapeError, r"gamma has shape \(4,\)"),
        ((R, V[:, :5], D, 0.9, 0.5), {}, ShapeError, r"expected values \(\.\.\., T \+ 1\)"),
        ((R, V[:, :4], D, 0.9, 0.5), {"next_values": R}, ShapeError, r"expected values \(\.\.\., T\)"),
        ((R[:, :0], V[:, :1], D[:, :0], 0.9, 0.5), {}, ShapeError, "T ≥ 1"),
        ((R, V, D[:, :3], 0.9, 0.5), {}, ShapeError, r"dones is \(2, 3\)"),
        ((R, V, D, 0.9, 0.5), {"truncated": D}, InvalidValueError, "without next_values"),
        ((R, V, D, 0.9, 0.5), {"truncated": D[0], "next_values": R}, ShapeError, "truncated is"),
        ((R, V, D, 0.9, 0.5), {"next_values": V}, ShapeError, "next_values is"),
        ((R, V.long(), D, 0.9, 0.5), {}, InvalidTypeError, "values are torch.int64"),
        ((R.tolist(), V, D, 0.9, 0.5), {}, InvalidTypeError, "list and Tensor"),
    ],
)
def test_bad_input_is_refused_and_named(function, arguments, settings, error, said):
    with pytest.raises(error, match=said):
        function(*arguments, **settings)


def test_on_another_device_nothing_is_looked_at_and_no_tensor_of_the_cpu_takes_part():
    r, v, done = (x.to("meta") for x in case((2, 70)))
    assert lambda_return(r, v, done, 0.99, 0.95).shape == (2, 70)
    cut = {"next_values": v[:, 1:], "truncated": done}
    advantages, returns = generalized_advantage(r, v, done, 0.99, 0.95, **cut)
    assert advantages.device.type == returns.device.type == "meta"
    w = v.clone().requires_grad_()
    assert torch.autograd.grad(lambda_return(r, w, done, 0.99, 0.95).sum(), w)[0].shape == v.shape


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_it_is_the_same():
    r, v, done = case((8, 1000))
    expected = lambda_return(r, v, done, 0.99, 0.95)
    found = lambda_return(r.cuda(), v.cuda(), done.cuda(), 0.99, 0.95)
    torch.testing.assert_close(found.cpu(), expected)
