"""Kernels on grids by FFT: held to the dense kernel of the same points, in every form that a grid can have."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fingerpost.errors import InvalidTypeError, InvalidValueError, NumericalError, ShapeError
from fingerpost.spectral import FourierFeatures, StationaryNTK, predict, relu_nngp, relu_ntk

SETTINGS = {"depth": 3, "weight_std": 1.3, "bias_std": 0.2, "output_scale": 1.5}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def gaussian(d, sigma):
    return FourierFeatures.gaussian(d, 8, sigma, seeded())


CASES = {
    "1-D, whole turns": (FourierFeatures.power(1.0, 16), (16,), None),
    "1-D, odd and past Nyquist": (FourierFeatures(torch.tensor([[1.0], [4.0], [9.0]])), (7,), None),
    "1-D, one frequency": (FourierFeatures.power(math.inf, 40), (40,), None),
    "1-D, Gaussian": (gaussian(1, 3.0), (11,), None),
    "1-D, one point": (gaussian(1, 3.0), (1,), None),
    "1-D, part of a turn": (FourierFeatures.power(1.0, 8), (8,), (0.05,)),
    "2-D, whole turns": (FourierFeatures.positional(2, 6, spacing="octave"), (6, 5), None),
    "2-D, Gaussian": (gaussian(2, 2.0), (6, 5), (0.1, 0.2)),
    "2-D, one axis whole": (FourierFeatures(torch.tensor([[1.0, 0.5], [2.0, 1.3]])), (6, 5), None),
    "3-D, whole turns": (FourierFeatures.positional(3, 6, 4.0), (3, 4, 5), None),
    "3-D, Gaussian": (gaussian(3, 1.0), (3, 4, 5), None),
}
WHOLE = [name for name in CASES if "whole" in name or "past" in name or name.endswith("frequency")]
WHOLE.remove("2-D, one axis whole")


def kernel(name, **more):
    encoding, shape, spacing = CASES[name]
    return StationaryNTK.on_grid(encoding.double(), shape, spacing=spacing, **SETTINGS, **more)


def points(shape, spacing, shift=None):
    shift = shift or (0.0,) * len(shape)
    axes = [s + h * torch.arange(n, dtype=torch.float64) for n, h, s in zip(shape, spacing, shift)]
    return torch.stack([axis.flatten() for axis in torch.meshgrid(*axes, indexing="ij")], 1)


def dense(K, other=None, function=relu_ntk):
    x = points(K.shape, K.spacing)
    return function(x if other is None else other, x, encoding=K.encoding, **SETTINGS)


def values(K, channels=3, seed=0):
    return torch.randn(*K.shape, channels, dtype=torch.float64, generator=seeded(seed))


@pytest.mark.parametrize("name", CASES)
def test_products_are_those_of_the_dense_kernel(name):
    K, v = kernel(name), values(kernel(name))
    expected = dense(K) @ v.flatten(0, -2)
    torch.testing.assert_close(K.matvec(v).flatten(0, -2), expected, rtol=1e-12, atol=1e-11)
    torch.testing.assert_close(K.matvec(v[..., 0]), K.matvec(v)[..., 0])
    torch.testing.assert_close(K.dense(), dense(K), rtol=1e-12, atol=1e-13)
    assert K.circulant == (name in WHOLE)


@pytest.mark.parametrize("name", CASES)
def test_cross_products_are_those_of_the_dense_kernel_on_shifted_grids_of_any_size(name):
    K = kernel(name)
    shift, v = tuple(0.4 * h for h in K.spacing), values(K)
    for other in (K.shape, tuple(n + 2 for n in K.shape), tuple(max(1, n - 1) for n in K.shape)):
        expected = dense(K, points(other, K.spacing, shift)) @ v.flatten(0, -2)
        found = K.cross_matvec(v, shift, other)
        assert found.shape == (*other, 3)
        torch.testing.assert_close(found.flatten(0, -2), expected, rtol=1e-12, atol=1e-11)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_any_grid_has_the_products_of_its_dense_kernel(data):
    d = data.draw(st.integers(1, 3))
    shape = tuple(data.draw(st.lists(st.integers(1, 7), min_size=d, max_size=d)))
    other = tuple(data.draw(st.lists(st.integers(1, 7), min_size=d, max_size=d)))
    spacing = tuple(data.draw(st.lists(st.sampled_from([1 / 7, 0.25, 0.5, 0.31]), min_size=d, max_size=d)))
    shift = tuple(data.draw(st.lists(st.floats(-2, 2), min_size=d, max_size=d)))
    rows = st.lists(st.sampled_from([0.0, 1.0, -2.0, 7.0, 0.3]), min_size=d, max_size=d)
    B = torch.tensor(data.draw(st.lists(rows, min_size=1, max_size=5)), dtype=torch.float64)
    K = StationaryNTK.on_grid(FourierFeatures(B), shape, spacing=spacing, **SETTINGS)
    v = values(K, 2)
    expected = dense(K) @ v.flatten(0, -2)
    torch.testing.assert_close(K.matvec(v).flatten(0, -2), expected, rtol=1e-6, atol=1e-6)
    expected = dense(K, points(other, K.spacing, shift)) @ v.flatten(0, -2)
    found = K.cross_matvec(v, shift, other).flatten(0, -2)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", WHOLE)
def test_eigenvalues_are_those_of_the_dense_kernel(name):
    K = kernel(name)
    expected = torch.linalg.eigvalsh(dense(K))
    found = K.eigenvalues()
    assert found.shape == K.shape
    torch.testing.assert_close(found.flatten().sort().values, expected, rtol=1e-10, atol=1e-12)
    wave = torch.cos(2 * math.pi * torch.arange(K.shape[-1], dtype=torch.float64) / K.shape[-1])
    wave = wave.expand(K.shape).contiguous()
    torch.testing.assert_close(K.matvec(wave), found[(0,) * (len(K.shape) - 1) + (1,)] * wave)


@pytest.mark.parametrize("name", CASES)
def test_the_largest_eigenvalue_is_found_without_the_kernel(name):
    K = kernel(name)
    assert K.largest_eigenvalue() == pytest.approx(float(torch.linalg.eigvalsh(dense(K))[-1]), rel=1e-10)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("ridge", [1e-2, 1.0])
def test_solving_is_that_of_the_dense_kernel(name, ridge):
    K = kernel(name)
    y = values(K)
    found = K.solve(y, ridge, tolerance=1e-10)
    A = dense(K) + ridge * torch.eye(math.prod(K.shape), dtype=torch.float64)
    torch.testing.assert_close(
        found.weights.flatten(0, -2), torch.linalg.solve(A, y.flatten(0, -2)), rtol=1e-7, atol=1e-7
    )
    assert found.converged
    assert found.residual < 2e-10


def test_half_a_picture_predicts_the_other_half_as_the_dense_kernel_does():
    """Train on [::2, ::2], test on [1::2, 1::2], of a picture with an odd side."""
    rows, columns = 13, 16
    encoding = gaussian(2, 2.0).double()
    pixels = points((rows, columns), (1 / rows, 1 / columns)).reshape(rows, columns, 2)
    picture = torch.sin(7 * pixels[..., 0]) + pixels[..., 1].square()
    K = StationaryNTK.on_grid(encoding, (7, 8), spacing=(2 / rows, 2 / columns), **SETTINGS)
    found = K.regress(picture[::2, ::2], (1 / rows, 1 / columns), ridge=1e-3, shape=(6, 8), tolerance=1e-11)
    x, z = pixels[::2, ::2].reshape(-1, 2), pixels[1::2, 1::2].reshape(-1, 2)
    A = relu_ntk(x, encoding=encoding, **SETTINGS) + 1e-3 * torch.eye(56, dtype=torch.float64)
    weights = torch.linalg.solve(A, picture[::2, ::2].flatten())
    expected = relu_ntk(z, x, encoding=encoding, **SETTINGS) @ weights
    torch.testing.assert_close(found.flatten(), expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", ["1-D, whole turns", "2-D, whole turns"])
@pytest.mark.parametrize(("loss", "time"), [("half_sum", "steps"), ("half_mean", "flow"), ("mse", "steps")])
def test_training_is_predicted_as_by_the_dense_kernel(name, loss, time):
    K = kernel(name)
    y, f0, f0_test = (values(K, seed=seed) for seed in (1, 2, 3))
    share = {"half_sum": 1.0, "half_mean": math.prod(K.shape), "mse": math.prod(K.shape) * 3 / 2}[loss]
    rate = 0.7 * share / K.largest_eigenvalue()
    t = torch.tensor([0.0, 1.0, 30.0, 1e5])
    flat = [tensor.flatten(0, -2) for tensor in (y, f0, f0_test)]
    shift = tuple(0.5 * h for h in K.spacing)
    cross = dense(K, points(K.shape, K.spacing, shift))
    expected = predict(dense(K), flat[0], t, rate, flat[1], loss=loss, time=time)
    found = K.predict(y, t, rate, f0, loss=loss, time=time)
    assert found.shape == (4, *y.shape)
    torch.testing.assert_close(found.flatten(1, -2), expected, rtol=1e-8, atol=1e-8)
    expected = predict(
        dense(K), flat[0], t, rate, flat[1], K_test=cross, f0_test=flat[2], loss=loss, time=time
    )
    found = K.predict(y, t, rate, f0, shift=shift, f0_test=f0_test, loss=loss, time=time)
    torch.testing.assert_close(found.flatten(1, -2), expected, rtol=1e-8, atol=1e-8)


def test_training_from_zero_of_one_output_keeps_its_shape_and_dtype():
    K = kernel("1-D, whole turns")
    y = values(K, 1)[:, 0].float()
    found = K.predict(y, 10, 0.1)
    assert (found.shape, found.dtype) == (y.shape, torch.float32)
    limit = K.predict(y, math.inf, 0.1)
    torch.testing.assert_close(limit, y)
    assert K.matvec(y).dtype == K.solve(y).weights.dtype == torch.float32


def test_one_picture_in_the_plane_is_predicted_as_one_channel():
    K = kernel("2-D, whole turns")
    y = values(K, 1)
    t = torch.tensor([1.0, 7.0])
    found = K.predict(y[..., 0], t, 0.01, shift=(0.01, 0.02))
    assert found.shape == (2, 6, 5)
    torch.testing.assert_close(found, K.predict(y, t, 0.01, shift=(0.01, 0.02))[..., 0])


def test_the_covariance_at_the_start_is_there_too():
    K = kernel("2-D, Gaussian", kind="nngp")
    torch.testing.assert_close(K.dense(), dense(K, function=relu_nngp), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["1-D, Gaussian", "2-D, whole turns"])
def test_the_standard_parametrization_is_there_too(name):
    K = kernel(name, width=64)
    x = points(K.shape, K.spacing)
    expected = relu_ntk(x, encoding=K.encoding, width=64, **SETTINGS)
    torch.testing.assert_close(K.dense(), expected, rtol=1e-12, atol=1e-11)


def test_neighbours_on_a_fine_grid_keep_their_digits():
    """One frequency on 100,000 points: neighbours 6e-5 apart in angle, where 1 − cos has lost nine digits."""
    K = StationaryNTK.on_grid(FourierFeatures.power(math.inf, 2).double(), (100_000,), **SETTINGS)
    table = K.matvec(torch.eye(1, 100_000, dtype=torch.float64)[0])
    x = points((3,), (1e-5,))
    expected = relu_ntk(x, x[:1], encoding=K.encoding, **SETTINGS)[:, 0]
    torch.testing.assert_close(table[:3], expected, rtol=1e-13, atol=0)


def test_a_solution_that_is_not_reached_raises_or_says_so():
    K = kernel("2-D, Gaussian")
    y = values(K)
    with pytest.raises(NumericalError, match=r"not 1e-12; give a ridge \(the largest eigenvalue is about"):
        K.solve(y, tolerance=1e-12, max_iterations=1)
    partial = K.solve(y, tolerance=1e-12, max_iterations=1, throw=False)
    assert not partial.converged
    assert partial.iterations == 1
    assert partial.residual > 1e-12


def test_a_singular_circulant_is_refused_with_the_ridge_it_needs():
    """Without biases and at one frequency, odd harmonics of ReLU kernels beyond the first vanish at depth 1."""
    K = StationaryNTK.on_grid(FourierFeatures.basic(1), (64,), depth=1, bias_std=0.0, kind="nngp")
    y = torch.zeros(64, dtype=torch.float64)
    with pytest.raises(NumericalError, match="singular in float64; give a ridge of at least"):
        K.solve(y)
    assert K.solve(y, 1e-8).converged


K1 = StationaryNTK.on_grid(FourierFeatures.power(1.0, 8), (8,), depth=1)
G2 = StationaryNTK.on_grid(FourierFeatures.gaussian(2, 4, 1.0, seeded()), (3, 4), depth=1)
BASIC = FourierFeatures.basic(2)
BAD = [
    (lambda: StationaryNTK.on_grid(torch.nn.Identity(), (4,), depth=1), InvalidTypeError, "encoding is Identity"),
    (lambda: StationaryNTK.on_grid(BASIC, (4,), depth=1), ShapeError, "expected 2 positive counts"),
    (lambda: StationaryNTK.on_grid(BASIC, (4, 0), depth=1), ShapeError, "expected 2 positive counts"),
    (lambda: StationaryNTK.on_grid(BASIC, (4, 4), depth=0), InvalidValueError, "depth is 0"),
    (lambda: StationaryNTK.on_grid(BASIC, (4, 4), depth=1, kind="ntkk"), InvalidValueError, "kind"),
    (lambda: StationaryNTK.on_grid(BASIC, (4, 4), depth=1, spacing=(0.1, 0.0)), InvalidValueError, "positive step"),
    (lambda: K1.matvec(torch.zeros(7)), ShapeError, r"v has shape \(7,\); expected \(8,\)"),
    (lambda: K1.matvec(torch.zeros(8).long()), InvalidTypeError, "int64"),
    (lambda: K1.solve(torch.full((8,), math.nan)), InvalidValueError, "y has NaN"),
    (lambda: K1.solve(torch.zeros(8), -1.0), InvalidValueError, "ridge is -1.0"),
    (lambda: K1.cross_matvec(torch.zeros(8), (0.1, 0.1)), ShapeError, "one finite offset an axis"),
    (lambda: K1.predict(torch.zeros(8), 1, 0.1, torch.zeros(8), shift=(0.1,)), InvalidValueError, "f0_test"),
    (lambda: K1.predict(torch.zeros(8), 1, 0.1, torch.zeros(8, 1)), ShapeError, "f0 has shape"),
    (lambda: K1.predict(torch.zeros(8), 1.5, 0.1), InvalidValueError, "not whole"),
    (lambda: G2.predict(torch.zeros(3, 4), 1, 0.1), InvalidValueError, r"along axes \[0, 1\] of the grid \(3, 4\)"),
    (lambda: G2.eigenvalues(), InvalidValueError, "eigenvalues needs a circulant"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "error", "said"), BAD)
def test_bad_input_is_refused(make, error, said):
    with pytest.raises(error, match=said):
        make()


def test_a_learning_rate_above_the_stable_limit_is_warned_of():
    with pytest.warns(UserWarning, match="above the stable limit"):
        K1.predict(torch.ones(8), 1, 2.1 / K1.largest_eigenvalue())
