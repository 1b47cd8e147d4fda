"""The conditional loss: against its definition by hand, its conventions, its sources of randomness, and bad input."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fingerpost import flow
from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError

PATHS = [
    flow.CondOT(), flow.CondOT(0.1), flow.VariancePreserving(), flow.VarianceExploding(), flow.Trigonometric(),
    flow.Bridge(0.5), flow.GaussianPath(lambda t, x1: t * x1, lambda t, x1: 1 - 0.5 * t),
]  # fmt: skip


def data(n: int = 32, d: int = 2, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=dtype)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def field(t: Tensor, x: Tensor) -> Tensor:
    return torch.sin(x) * t[:, None]


@pytest.mark.parametrize("path", PATHS, ids=lambda value: type(value).__name__)
def test_the_loss_is_the_squared_error_on_the_target_summed_over_axes(path: flow.AbstractPath) -> None:
    x1 = data()
    x0, t = data().flip(0), torch.linspace(0.05, 0.9, 32, dtype=torch.float64)
    x, target = path.sample_and_target(x0, x1, t, generator=seeded())
    rows = (field(t, x) - target).square().sum(1)
    for reduction, expected in (("none", rows), ("sum", rows.sum()), ("mean", rows.mean())):
        loss = flow.cfm_loss(field, x1, x0=x0, path=path, time=t, generator=seeded(), reduction=reduction)
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)


def test_weights_multiply_rows() -> None:
    x1, t = data(), torch.linspace(0, 1, 32, dtype=torch.float64)
    rows = flow.cfm_loss(field, x1, x0=-x1, time=t, reduction="none")
    weighted = flow.cfm_loss(field, x1, x0=-x1, time=t, weight=lambda t: t**2)
    torch.testing.assert_close(weighted, (t**2 * rows).mean())


@pytest.mark.parametrize("path", PATHS, ids=lambda value: type(value).__name__)
def test_the_same_generator_gives_the_same_loss_and_leaves_the_global_one_alone(
    path: flow.AbstractPath,
) -> None:
    before = torch.get_rng_state()
    pair = [
        flow.cfm_loss(
            field, data(), path=path, coupling=flow.Sinkhorn(5.0), time=flow.LogitNormal(), generator=seeded()
        )
        for _ in range(2)
    ]
    assert torch.equal(*pair)
    assert torch.equal(before, torch.get_rng_state())


def test_couplings_and_conditions_reach_the_model_in_step() -> None:
    labels = torch.arange(32) % 4
    seen = {}

    def model(t: Tensor, x: Tensor, condition: Tensor) -> Tensor:
        seen["condition"], seen["x"] = condition, x
        return x

    x1 = data()
    flow.cfm_loss(
        model,
        x1,
        x0=data().flip(0),
        time=torch.ones(32),
        coupling=flow.ExactOT(within_class=True),
        condition=labels,
    )
    assert torch.equal(seen["condition"], labels)
    torch.testing.assert_close(seen["x"], x1)  # at t = 1 rows are still the data's, in their order


def test_the_best_constant_model_of_the_straight_path_is_the_mean_difference() -> None:
    """The minimiser over constants c of E‖c − (x₁ − x₀)‖² is E x₁: the gradient vanishes there, and not beside it."""
    x1 = data(20_000) + 3
    gradients = []
    for shift in (0.0, 0.5):
        constant = (x1.mean(0) + shift).requires_grad_()
        flow.cfm_loss(lambda t, x: constant.expand_as(x), x1, generator=seeded()).backward()
        gradients.append(float(constant.grad.norm()))
    assert gradients[0] < 2 * 5 * math.sqrt(2 / 20_000)
    assert gradients[1] > 1.0


def test_gradients_reach_the_parameters_and_data() -> None:
    x1 = data(4).requires_grad_()
    weight = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    t = torch.linspace(0.1, 0.9, 4, dtype=torch.float64)

    def loss(x1: Tensor, weight: Tensor) -> Tensor:
        return flow.cfm_loss(
            lambda t, x: weight * x, x1, x0=data(4).flip(0), time=t, path=flow.VariancePreserving()
        )

    assert torch.autograd.gradcheck(loss, (x1, weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_model_sees_times_of_the_data_s_precision_and_shape_b(dtype: torch.dtype) -> None:
    def model(t: Tensor, x: Tensor) -> Tensor:
        assert t.shape == (6,)
        assert t.dtype == x.dtype == dtype
        assert bool((t >= 0).all() and (t <= 1).all())
        return x

    for path in PATHS:
        assert flow.cfm_loss(model, data(6, dtype=dtype), path=path).dtype == dtype


def test_bad_input_is_refused_with_what_was_given() -> None:
    x1 = data(8)
    bad = x1.clone()
    bad[[2, 5]] = math.nan
    with pytest.raises(InvalidValueError, match="x1 has NaN or infinite values in rows 2, 5"):
        flow.cfm_loss(field, bad)
    with pytest.raises(InvalidValueError, match="x0 has NaN"):
        flow.cfm_loss(field, x1, x0=bad)
    with pytest.raises(ShapeError, match="in pairs"):
        flow.cfm_loss(field, x1, x0=x1[:4])
    with pytest.raises(ShapeError, match="B ≥ 1"):
        flow.cfm_loss(field, x1[:0])
    with pytest.raises(InvalidTypeError, match="floating-point"):
        flow.cfm_loss(field, torch.ones(3, 2).long())
    with pytest.raises(InvalidValueError, match=r"t reaches from 0 to 1.5; CondOT is defined on \[0, 1\]"):
        flow.cfm_loss(field, x1, time=torch.tensor([0, 1.5] * 4))
    with pytest.raises(ShapeError, match=r"time has shape \(3,\)"):
        flow.cfm_loss(field, x1, time=torch.rand(3))
    with pytest.raises(InvalidValueError, match="reduction is 'average'"):
        flow.cfm_loss(field, x1, reduction="average")
    with pytest.raises(ShapeError, match=r"the model returned shape \(8, 1\)"):
        flow.cfm_loss(lambda t, x: x[:, :1], x1)
    with pytest.raises(ShapeError, match="weight returned shape"):
        flow.cfm_loss(field, x1, weight=lambda t: t[:, None])


def test_a_sum_that_overflows_without_bad_rows_is_not_refused() -> None:
    large = torch.full((4, 2), 2e38)
    assert flow.cfm_loss(lambda t, x: x, large, reduction="none").shape == (4,)


TIMES = [
    flow.Uniform(),
    flow.LogitNormal(),
    flow.LogitNormal(-0.5, 0.7),
    flow.Beta(2.0, 1.0),
    flow.Beta(1.5, 3.0),
]


@pytest.mark.parametrize("time", TIMES, ids=lambda value: type(value).__name__)
def test_the_density_of_times_is_the_derivative_of_the_quantile(time: flow.AbstractTime) -> None:
    u = torch.linspace(0.02, 0.98, 49, dtype=torch.float64)
    slope = (time.quantile(u + 1e-6) - time.quantile(u - 1e-6)) / 2e-6
    torch.testing.assert_close(time.density(time.quantile(u)) * slope, torch.ones_like(u), rtol=1e-6, atol=0)


@pytest.mark.parametrize("spread", ["independent", "stratified", "antithetic"])
@pytest.mark.parametrize("kind", [flow.Uniform, flow.LogitNormal, lambda spread: flow.Beta(2.0, 1.0, spread)])
def test_spread_out_times_keep_their_distribution(spread: str, kind) -> None:
    time = kind(spread=spread)
    t = torch.cat(
        [time.draw(99, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(200)]
    )
    quantiles = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    found = torch.quantile(t, quantiles)
    error = (found - time.quantile(quantiles)) * time.density(found)
    assert float(error.abs().max()) < 5 * 0.5 / math.sqrt(19_800)


@pytest.mark.parametrize("spread", ["stratified", "antithetic"])
def test_spread_out_times_lower_the_variance_of_a_smooth_mean(spread: str) -> None:
    def variance(time: flow.AbstractTime) -> float:
        draws = [time.draw(64, generator=torch.Generator().manual_seed(i)).exp().mean() for i in range(300)]
        return float(torch.stack(draws).var())

    assert variance(flow.Uniform(spread)) < 0.1 * variance(flow.Uniform())


def test_weights_by_the_inverse_density_give_the_loss_of_uniform_times() -> None:
    x1, time = data(200_000), flow.Beta(2.0, 1.0)
    uniform = flow.cfm_loss(field, x1, generator=seeded())
    weighted = flow.cfm_loss(field, x1, time=time, weight=lambda t: 1 / time.density(t), generator=seeded())
    assert float(weighted) == pytest.approx(float(uniform), rel=0.02)


def test_bad_distributions_of_times_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="did you mean 'stratified'"):
        flow.Uniform("stratifed")
    with pytest.raises(InvalidValueError, match="std is 0"):
        flow.LogitNormal(std=0)
    with pytest.raises(InvalidValueError, match="a=0"):
        flow.Beta(0, 1)
