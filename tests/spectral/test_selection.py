"""σ and p by the kernel against the same regression done densely, against networks that are trained, and bad input."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from torch import nn

from fingerpost.errors import FingerpostError, InvalidTypeError, InvalidValueError, NumericalError, ShapeError
from fingerpost.spectral import (
    CoordinateMLP,
    FourierFeatures,
    Selection,
    relu_ntk,
    select_p,
    select_sigma,
    selection,
)
from fingerpost.spectral._krylov import apply_function

DOUBLE = torch.float64


def picture(n=24, channels=None, seed=0):
    """A few waves of low frequency, in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    u, v = torch.meshgrid(torch.arange(n) / n, torch.arange(n) / n, indexing="ij")
    layers = []
    for _ in range(channels or 1):
        parts = torch.zeros(n, n, dtype=DOUBLE)
        for _ in range(5):
            a, b, phase = torch.randn(3, generator=generator).tolist()
            parts += torch.cos(2 * math.pi * (2 * a * u + 2 * b * v) + 6 * phase)
        layers.append(0.5 + parts / 10)
    return torch.stack(layers, -1) if channels else layers[0]


def split(image):
    n, m = image.shape[:2]
    points = torch.stack(torch.meshgrid(torch.arange(n) / n, torch.arange(m) / m, indexing="ij"), -1).double()
    parts = []
    for first in (0, 1):
        parts += [points[first::2, first::2].reshape(-1, 2), image[first::2, first::2].flatten(0, 1)]
    return parts


# the grid against the dense kernel


@pytest.mark.parametrize("shape", [(24, 24), (17, 22)])
@pytest.mark.parametrize("channels", [None, 3])
@pytest.mark.parametrize("stop_at", [None, 5.0])
def test_a_picture_on_its_grid_gives_the_errors_of_the_same_points_by_the_dense_kernel(
    shape, channels, stop_at
):
    image = picture(24, channels)[: shape[0], : shape[1]]
    settings = {"features": 32, "depth": 2, "ridge": 1e-2, "stop_at": stop_at, "seed": 3}
    grid = select_sigma(image, (1.0, 4.0, 12.0), **settings)
    x, y, x_test, y_test = split(image)
    dense = select_sigma((x, y), (1.0, 4.0, 12.0), test=(x_test, y_test), **settings)
    for ours, theirs in zip(grid.errors, dense.errors):
        assert ours == pytest.approx(theirs, rel=5e-3)
    assert grid.best == dense.best


def test_the_dense_errors_are_those_of_ridge_regression_written_out():
    image = picture(16)
    x, y, x_test, y_test = split(image[..., None])
    found = select_sigma((x, y), (3.0,), test=(x_test, y_test), features=16, depth=2, ridge=0.01, seed=1)
    encoding = FourierFeatures.gaussian(2, 16, 3.0, torch.Generator().manual_seed(1))
    K = relu_ntk(x, depth=2, encoding=encoding)
    K_test = relu_ntk(x_test, x, depth=2, encoding=encoding)
    ridge = 0.01 * float(K[0, 0])
    prediction = y.mean() + K_test @ torch.linalg.inv(K + ridge * torch.eye(len(x), dtype=DOUBLE)) @ (
        y - y.mean()
    )
    assert found.errors[0] == pytest.approx(float((prediction - y_test).square().mean()), rel=1e-8)


def test_a_late_stop_is_the_end_of_training_and_an_early_one_the_mean():
    image = picture()
    end = select_sigma(image, (2.0,), features=32, ridge=0.01)
    late = select_sigma(image, (2.0,), features=32, ridge=0.01, stop_at=1e6)
    assert late.errors[0] == pytest.approx(end.errors[0], rel=1e-3)
    start = select_sigma(image, (2.0,), features=32, stop_at=0.0)
    expected = float((image[1::2, 1::2] - image[::2, ::2].mean()).square().mean())
    assert start.errors[0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [48, 45])
def test_a_signal_on_its_grid_gives_the_errors_of_the_same_points_by_the_dense_kernel(n):
    v = torch.arange(n, dtype=DOUBLE) / n
    y = torch.sin(2 * math.pi * v) + 0.3 * torch.cos(2 * math.pi * 5 * v)
    powers = (0.0, 1.0, math.inf)
    grid = select_p(y, powers, depth=2)
    dense = select_p((v[::2, None], y[::2]), powers, test=(v[1::2, None], y[1::2]), depth=2)
    for ours, theirs in zip(grid.errors, dense.errors):
        assert ours == pytest.approx(theirs, rel=5e-3)


# what is selected


def test_signals_of_higher_frequency_want_wider_encodings():
    n = 64
    v = torch.arange(n, dtype=DOUBLE) / n
    waves = [torch.sin(2 * math.pi * k * v)[:, None] * torch.cos(2 * math.pi * k * v) for k in (1, 6)]
    slow, fast = (select_sigma(wave, (0.3, 1.0, 3.0, 10.0)).best for wave in waves)
    assert slow < fast < 10
    smooth = torch.sin(2 * math.pi * v)
    rough = torch.randn(8, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    rough = sum(a * torch.cos(2 * math.pi * (j + 4) * v + 9 * a) for j, a in enumerate(rough))
    assert select_p(smooth).best > select_p(rough).best


def test_the_order_of_candidates_is_that_of_wide_networks_really_trained():
    """One-dimensional, full-batch gradient descent to the end; the kernel picks the σ that trains best."""
    n, sigmas = 48, (0.5, 3.0, 20.0)
    v = (torch.arange(n, dtype=DOUBLE) / n)[:, None]
    y = torch.sin(2 * math.pi * 2 * v) + 0.5 * torch.cos(2 * math.pi * 5 * v + 1)
    train, test = (v[::2], y[::2]), (v[1::2], y[1::2])
    found = select_sigma(train, sigmas, test=test, features=32, depth=2)
    trained = []
    for sigma in sigmas:
        encoding = FourierFeatures.gaussian(1, 32, sigma, torch.Generator().manual_seed(0))
        net = CoordinateMLP(
            1, 1, 256, 2, encoding=encoding, parametrization="ntk", generator=torch.Generator().manual_seed(1)
        ).double()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
        for _ in range(300):
            optimizer.zero_grad()
            nn.functional.mse_loss(net(train[0]), train[1]).backward()
            optimizer.step()
        with torch.no_grad():
            trained.append(float(nn.functional.mse_loss(net(test[0]), test[1])))
    assert sigmas[trained.index(min(trained))] == found.best == 3.0


def test_a_selection_says_what_it_tried():
    found = Selection("sigma", (1.0, 4.0, 8.0), (0.01, 0.001, 0.1), 4.0)
    assert found.psnr() == pytest.approx((20.0, 30.0, 10.0))
    assert found.psnr(255.0)[0] == pytest.approx(20 + 20 * math.log10(255))
    assert not found.at_edge
    assert Selection("p", (0.0, 1.0), (0.0, 1.0), 0.0).at_edge
    assert Selection("p", (0.0, 1.0), (0.0, 1.0), 0.0).psnr()[0] == math.inf
    assert str(found).splitlines()[2].split() == ["4", "0.001", "best"]


def test_it_repeats_to_the_bit_and_another_seed_draws_other_frequencies():
    image = picture()
    first, second = (select_sigma(image, (3.0,), features=8) for _ in range(2))
    assert first == second
    assert select_sigma(image, (3.0,), features=8, seed=1).errors != first.errors
    x, y, *_ = split(image[..., None])
    assert select_sigma((x, y), (3.0,), features=8) == select_sigma((x, y), (3.0,), features=8)


def test_float32_pictures_and_those_of_one_channel_are_the_same_pictures():
    image = picture()
    double = select_sigma(image, (3.0,), features=16).errors[0]
    assert select_sigma(image.float(), (3.0,), features=16).errors[0] == pytest.approx(double, rel=1e-3)
    assert select_sigma(image[..., None], (3.0,), features=16).errors[0] == double


def test_a_bar_is_shown_on_a_terminal_alone(capsys, monkeypatch):
    select_sigma(picture(), (1.0, 2.0), features=8, progress=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    select_sigma(picture(), (1.0, 2.0), features=8, progress=True)
    assert "sigma by the tangent kernel" in capsys.readouterr().err


# Lanczos


@pytest.mark.parametrize("function", [lambda v: 1 / (0.01 + v), lambda v: -torch.expm1(-30 * v), torch.sqrt])
def test_functions_of_an_operator_are_those_of_its_eigenvalues(function):
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(60, 60, generator=generator, dtype=DOUBLE) / 8
    A = factor @ factor.T
    b = torch.randn(60, 3, generator=generator, dtype=DOUBLE)
    b[:, 1] = 0
    values, vectors = torch.linalg.eigh(A)
    expected = vectors @ (function(values.clamp(min=0))[:, None] * (vectors.T @ b))
    found, reached = apply_function(lambda v: A @ v, b, function, tolerance=1e-9, max_iterations=60)
    assert reached
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)


def test_an_operator_of_few_eigenvalues_is_spent_early_and_too_few_products_are_told():
    A = torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=DOUBLE).repeat(10))
    calls = []

    def product(v):
        calls.append(1)
        return A @ v

    b = torch.ones(30, 1, dtype=DOUBLE)
    found, reached = apply_function(product, b, torch.exp, tolerance=1e-9, max_iterations=30)
    assert (reached, len(calls)) == (True, 3)
    torch.testing.assert_close(found[:, 0], A.diagonal().exp())
    spread = torch.diag(torch.linspace(0, 1, 200, dtype=DOUBLE))
    ones = torch.ones(200, 1, dtype=DOUBLE)
    _, reached = apply_function(
        lambda v: spread @ v, ones, lambda v: 1 / (1e-6 + v), tolerance=1e-9, max_iterations=20
    )
    assert not reached


@pytest.mark.parametrize("stop_at", [None, 100.0])
def test_a_regression_short_of_its_tolerance_warns(stop_at, monkeypatch):
    monkeypatch.setattr(selection, "_ITERATIONS", 3)
    with pytest.warns(UserWarning, match="not at its tolerance after 3 products"):
        select_sigma(picture(), (0.5,), features=16, stop_at=stop_at)


# bad input

IMAGE = picture(12)
X, Y = torch.rand(20, 2, dtype=DOUBLE), torch.rand(20, dtype=DOUBLE)
BAD = [
    (IMAGE.numpy(), {}, ShapeError, "data is ndarray"),
    (IMAGE.mul(255).long(), {}, InvalidTypeError, "data is torch.int64"),
    (IMAGE[0], {}, ShapeError, r"data has shape \(12,\); expected \(height, width\)"),
    (IMAGE[:3], {}, ShapeError, "at least 4"),
    (IMAGE * math.nan, {}, InvalidValueError, "data is NaN or infinite in 144 entries"),
    (IMAGE, {"candidates": ()}, InvalidValueError, "none given"),
    (IMAGE, {"candidates": (1.0, -2.0)}, InvalidValueError, r"sigma: \[-2.0\]"),
    (IMAGE, {"candidates": (math.inf,)}, InvalidValueError, r"\[inf\]"),
    (IMAGE, {"candidates": ("much",)}, InvalidValueError, "much"),
    (IMAGE, {"ridge": -1.0}, InvalidValueError, "ridge is -1.0"),
    (IMAGE, {"stop_at": math.inf}, InvalidValueError, "stop_at is inf"),
    (IMAGE, {"test": (X, Y)}, InvalidValueError, "test is for data that are points"),
    (IMAGE, {"depth": 0}, InvalidValueError, "depth is 0"),
    ((X, Y[:5]), {}, ShapeError, r"points \(20, 2\) and labels \(5,\)"),
    ((X[:, 0], Y), {}, ShapeError, "expected"),
    ((X, Y.long()), {}, InvalidTypeError, "data: labels is torch.int64"),
    ((X, Y * math.nan), {}, InvalidValueError, "data: labels is NaN or infinite in 20 entries"),
    ((X, Y), {"test": (X[:, :1], Y)}, ShapeError, "test has 1 coordinate and"),
    ((X, Y), {"held_out": 0.0}, InvalidValueError, "held_out is 0.0"),
    ((X[:2], Y[:2]), {"held_out": 0.5}, ShapeError, "leaves too few"),
]


@pytest.mark.parametrize(("data", "changes", "error", "said"), BAD)
def test_bad_input_is_refused_by_name(data, changes, error, said):
    with pytest.raises(error, match=said) as caught:
        select_sigma(data, **changes)
    assert isinstance(caught.value, FingerpostError)


def test_bad_input_for_p_is_refused_by_name():
    with pytest.raises(ShapeError, match=r"\(n,\) or \(n, channels\)"):
        select_p(torch.rand(3, 4, 5))
    with pytest.raises(ShapeError, match=r"shape \(\)"):
        select_p(torch.tensor(1.0))
    with pytest.raises(ShapeError, match="2 coordinates"):
        select_p((X, Y))
    with pytest.raises(InvalidValueError, match=r"p: \[nan\]"):
        select_p(torch.rand(20), (math.nan,))
    with pytest.raises((InvalidValueError, NumericalError)):
        select_p(torch.rand(20), (-2000.0,))
