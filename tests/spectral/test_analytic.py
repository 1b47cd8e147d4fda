"""Analytic kernels: held to neural-tangents, to 60 digits near coincident points, and to wide networks."""

import json
import math
from pathlib import Path

import pytest
import torch

from fingerpost.errors import InvalidTypeError, InvalidValueError, NumericalError, ShapeError
from fingerpost.spectral import CoordinateMLP, FourierFeatures, relu_nngp, relu_ntk
from fingerpost.spectral._relu_recursion import sine_less_chord

TABLE = json.loads((Path(__file__).parent / "references" / "relu_kernels.json").read_text())
KERNELS = {"nngp": relu_nngp, "ntk": relu_ntk}
SETTINGS = ("depth", "weight_std", "bias_std")
PRECISIONS = [(torch.float64, 2e-14), (torch.float32, 1e-6)]


def f64(values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("kind", KERNELS)
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("case", TABLE["neural_tangents"], ids=lambda c: f"depth {c['depth']}")
def test_neural_tangents_values_at_separate_points(kind, dtype, tolerance, case):
    x1, x2 = f64(TABLE["x1"]).to(dtype), f64(TABLE["x2"]).to(dtype)
    found = KERNELS[kind](x1, x2, **{name: case[name] for name in SETTINGS})
    expected = f64(case[kind])
    assert found.dtype == dtype
    assert (found.double() - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("kind", KERNELS)
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_sixty_digits_at_angles_down_to_1e_8(kind, dtype, tolerance):
    for row in TABLE["mpmath"]:
        settings = {name: row[name] for name in SETTINGS}
        x, y = f64([row["x"]]).to(dtype), f64([row["y"]]).to(dtype)
        scale = math.sqrt(float(KERNELS[kind](x, **settings) * KERNELS[kind](y, **settings)))
        error = abs(float(KERNELS[kind](x, y, **settings)) - row[kind])
        assert error <= tolerance * scale, row


def test_the_series_meets_the_formula_and_keeps_its_digits():
    below, above = f64(1.0 - 1e-12), f64(1.0 + 1e-12)
    assert abs(float(sine_less_chord(above) - sine_less_chord(below))) < 1e-11
    middle = f64([0.5, 0.9, 2.0, math.pi])
    torch.testing.assert_close(
        sine_less_chord(middle), middle.sin() - middle * middle.cos(), rtol=1e-14, atol=0
    )
    small = f64([1e-8, 1e-4])
    torch.testing.assert_close(sine_less_chord(small), small**3 / 3 * (1 - small**2 / 10), rtol=1e-15, atol=0)


@pytest.mark.parametrize("depth", [1, 3])
def test_the_mean_kernel_of_wide_networks_is_the_analytic_one(depth):
    encoding = FourierFeatures.gaussian(2, 8, 1.0, torch.Generator().manual_seed(5)).double()
    x = torch.rand(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    settings = {"depth": depth, "weight_std": 1.4, "bias_std": 0.3, "output_scale": 2.0, "encoding": encoding}
    kernels, outputs = [], []
    for seed in range(60):
        net = CoordinateMLP(
            2, 1, 192, parametrization="ntk", generator=torch.Generator().manual_seed(seed), **settings
        ).double()
        f = net(x)[:, 0]
        rows = [torch.autograd.grad(value, list(net.parameters()), retain_graph=True) for value in f]
        J = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
        kernels.append(J @ J.T)
        outputs.append(f.detach())
    expected, found = relu_ntk(x, **settings), torch.stack(kernels)
    error = found.std(0) / math.sqrt(60) + 0.01 * expected.abs().max()  # noise, and the width's own bias
    assert ((found.mean(0) - expected).abs() < 4 * error).all()
    spread = torch.stack(outputs)
    start = relu_nngp(x, **settings)
    covariance = spread.T @ spread / 60
    noise = ((start.diagonal()[:, None] * start.diagonal() + start**2) / 60).sqrt()
    assert ((covariance - start).abs() < 4.5 * noise).all()


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_many_coordinates_by_products_give_what_differences_give(dtype, tolerance, monkeypatch):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(12, 100, dtype=torch.float64, generator=generator)
    scales = f64([0.0, 1e-9, 1e-6, 1e-4, 1e-3, 1e-2, 0.1, 1.0])[:, None]
    near = x[:1] + scales * torch.randn(8, 100, dtype=torch.float64, generator=generator)
    x = torch.cat([x, near, -near, torch.zeros(1, 100, dtype=torch.float64)]).to(dtype)
    for bias_std in (0.0, 0.3):
        monkeypatch.setattr("fingerpost.spectral.analytic._FEW", 64)
        found = relu_ntk(x, depth=3, bias_std=bias_std)
        monkeypatch.setattr("fingerpost.spectral.analytic._FEW", 1000)
        expected = relu_ntk(x.double(), depth=3, bias_std=bias_std)
        assert (found - expected).abs().max() <= tolerance * expected.max()


@pytest.mark.parametrize("depth", [1, 3])
def test_the_kernel_of_a_width_is_that_of_networks_in_the_standard_parametrization(depth):
    x = torch.rand(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) - 0.5
    settings = {"depth": depth, "weight_std": 1.2, "bias_std": 0.0}
    kernels = []
    for seed in range(60):
        net = CoordinateMLP(2, 1, 128, generator=torch.Generator().manual_seed(seed), **settings).double()
        rows = [torch.autograd.grad(value, list(net.parameters()), retain_graph=True) for value in net(x)]
        J = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
        kernels.append(J @ J.T)
    expected, found = relu_ntk(x, width=128, **settings), torch.stack(kernels)
    error = found.std(0) / math.sqrt(60) + 0.01 * expected.abs().max()
    assert ((found.mean(0) - expected).abs() < 4 * error).all()
    wider = relu_ntk(x, width=1280, **settings)
    assert 8 < float(wider[0, 0] / expected[0, 0]) < 10


def test_kernels_of_coincident_and_zero_points_are_finite_and_symmetric():
    x = f64([[0.3, 0.4], [0.3, 0.4], [0.0, 0.0], [-0.3, -0.4]])
    for bias_std in (0.0, 0.1):
        K = relu_ntk(x, depth=4, bias_std=bias_std)
        assert torch.equal(K, K.T)
        assert K[0, 0] == K[0, 1]
        assert torch.linalg.eigvalsh(K)[0] > -1e-14 * K.max()
    assert relu_ntk(x[2:3], depth=2, bias_std=0.0) == 0


def test_blocks_of_rows_and_half_precision_change_nothing(monkeypatch):
    x = torch.rand(9, 3, generator=torch.Generator().manual_seed(0))
    whole = relu_ntk(x, x[:4], depth=2)
    monkeypatch.setattr("fingerpost.spectral.analytic._BLOCK", 8)
    torch.testing.assert_close(relu_ntk(x, x[:4], depth=2), whole, rtol=1e-6, atol=0)
    half = relu_ntk(x.bfloat16(), depth=2)
    assert torch.equal(half, relu_ntk(x.bfloat16().float(), depth=2))


X = torch.zeros(3, 2)
BAD = [
    (lambda: relu_ntk(X, depth=0), InvalidValueError, "depth is 0"),
    (lambda: relu_ntk(X, depth=1.5), InvalidValueError, "depth is 1.5"),
    (lambda: relu_ntk(X, depth=1, width=0), InvalidValueError, "width is 0"),
    (lambda: relu_ntk(X, depth=1, width=8, weight_std=0.0), InvalidValueError, "divides by it"),
    (lambda: relu_ntk(X, depth=1, bias_std=-1.0), InvalidValueError, "bias_std is -1.0"),
    (lambda: relu_nngp(X[0], depth=1), ShapeError, r"x1 has shape \(2,\)"),
    (lambda: relu_nngp(X, X[:, :1], depth=1), ShapeError, "as many columns"),
    (lambda: relu_ntk(X, X.double(), depth=1), InvalidTypeError, "expected one dtype"),
    (lambda: relu_ntk(X.long(), depth=1), InvalidTypeError, "int64"),
    (lambda: relu_ntk(X * math.nan, depth=1), InvalidValueError, "NaN"),
    (lambda: relu_ntk(X + 1e30, depth=1), NumericalError, "overflows"),
    (lambda: relu_ntk(X, depth=1, encoding=FourierFeatures.basic(3)), ShapeError, "this encoding expects"),
]


@pytest.mark.parametrize(("make", "error", "said"), BAD)
def test_bad_input_is_refused(make, error, said):
    with pytest.raises(error, match=said):
        make()
