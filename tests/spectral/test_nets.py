"""CoordinateMLP: both parametrizations start as one function, and its kernel and scales are what they say."""

import math

import pytest
import torch

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.spectral import CoordinateMLP, NTKLinear


def net(seed=0, **given):
    given = {"inputs": 2, "outputs": 3, "width": 16, "depth": 2} | given
    return CoordinateMLP(**given, generator=torch.Generator().manual_seed(seed)).double()


def points(n=5, d=2):
    return torch.rand(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "silu", "softplus"])
@pytest.mark.parametrize("bias", [True, False])
def test_both_parametrizations_start_as_one_function(activation, bias):
    given = {"activation": activation, "bias": bias, "weight_std": 1.3, "bias_std": 0.4, "output_scale": 3.0}
    x = points()
    standard, ntk = (net(parametrization=name, **given)(x) for name in ("standard", "ntk"))
    torch.testing.assert_close(
        standard, ntk, rtol=1e-5, atol=1e-6
    )  # draws are float32, scaled before or after


def test_gradients_of_the_ntk_parametrization_carry_the_scale():
    x = points()
    standard, ntk = net(), net(parametrization="ntk")
    for module in (standard, ntk):
        module(x).sum().backward()
    for mine, theirs in zip(ntk.layers[::2], standard.layers[::2]):
        scale = math.sqrt(2.0 / mine.in_features)
        torch.testing.assert_close(mine.weight.grad, scale * theirs.weight.grad, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(mine.bias.grad, 0.1 * theirs.bias.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["standard", "ntk"])
def test_outputs_of_wide_networks_have_the_variance_of_the_recursion(name):
    """For ReLU with σ_W = √2: q_l = q_{l−1} + σ_b², by hand."""
    x = torch.tensor([[0.6, 0.8]])
    outputs = torch.cat([net(s, width=256, parametrization=name)(x.double())[0] for s in range(300)])
    expected = 2 * (1.0 / 2) + 3 * 0.1**2
    assert outputs.var().item() == pytest.approx(expected, rel=0.15)  # 900 outputs: standard error 5 %


def test_alpha_multiplies_before_the_sigmoid():
    x = points()
    plain, scaled = net(), net(output_scale=5.0, sigmoid=True)
    torch.testing.assert_close(scaled(x), torch.sigmoid(5.0 * plain(x)))


def test_one_seed_gives_one_network_and_leaves_torchs_own_state_alone():
    before = torch.random.get_rng_state()
    first, second, other = net(7), net(7), net(8)
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters()))
    assert not torch.equal(first.layers[0].weight, other.layers[0].weight)


def test_cached_features_give_the_same_output_and_any_leading_axes_are_kept():
    module = net(encoding=torch.nn.Linear(2, 6))
    x = points(12).reshape(3, 4, 2)
    assert module(x).shape == (3, 4, 3)
    torch.testing.assert_close(module.from_features(module.encode(x)), module(x))


def test_depth_counts_hidden_layers():
    module = net(depth=3, width=8)
    assert [type(layer).__name__ for layer in module.layers] == ["Linear", "ReLU"] * 3 + ["Linear"]
    assert sum(p.numel() for p in module.parameters()) == 2 * 8 + 8 + 2 * (64 + 8) + 8 * 3 + 3


def test_a_saved_network_comes_back():
    one, two = net(1, parametrization="ntk"), net(2, parametrization="ntk")
    two.load_state_dict(one.state_dict())
    torch.testing.assert_close(one(points()), two(points()), rtol=0, atol=0)


BAD = [
    (lambda: net(width=0), InvalidValueError, "width is 0"),
    (lambda: net(depth=True), InvalidTypeError, "depth is True"),
    (lambda: net(inputs=2.0), InvalidTypeError, "inputs is 2.0"),
    (lambda: net(weight_std=-1.0), InvalidValueError, "weight_std is -1.0"),
    (lambda: net(output_scale=math.nan), InvalidValueError, "output_scale is nan"),
    (lambda: net(activation="relo"), InvalidValueError, "did you mean 'relu'"),
    (lambda: net(parametrization="mup"), InvalidValueError, "one of 'standard', 'ntk'"),
    (lambda: net(encoding=torch.sin), InvalidTypeError, "expected a torch module"),
    (lambda: net(encoding=torch.nn.Flatten(0)), ShapeError, "one row a point"),
    (lambda: net()(points(4, 3)), ShapeError, r"x has shape \(4, 3\); this network expects \(…, 2\)"),
]


@pytest.mark.parametrize(("make", "error", "said"), BAD)
def test_what_cannot_be_built_or_called_is_refused(make, error, said):
    with pytest.raises(error, match=said):
        make()


def test_an_ntk_layer_says_its_scales():
    assert "weight_scale=0.707107, bias_scale=0.1" in repr(NTKLinear(4, 2))
