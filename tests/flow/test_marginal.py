"""The marginal field: the continuity equation, a Gaussian's closed form, both losses and their gradients, ODE sampling."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fingerpost import flow
from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError

SCHEDULES = {
    "straight": flow.CondOT(sigma_min=0.05),
    "variance preserving": flow.VariancePreserving(cutoff=0.01),
    "variance exploding": flow.VarianceExploding(sigma_min=0.05, sigma_max=5.0),
    "trigonometric": flow.Trigonometric(),
}


def points(n: int = 5, d: int = 2) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def fields() -> dict[str, flow.MarginalField]:
    weights = torch.tensor([0.1, 0.3, 0.2, 0.0, 0.4])
    return {name: flow.MarginalField(points(), path, weights) for name, path in SCHEDULES.items()}


def places(n: int = 40) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.linspace(0.05, 0.9, n, dtype=torch.float64), torch.randn(n, 2, generator=generator).double()


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_field_moves_the_density_by_the_continuity_equation(name: str) -> None:
    """∂p/∂t + ∇·(p u) = 0, divided by p: ∂ log p/∂t + u·∇ log p + ∇·u = 0, by finite differences."""
    field, (t, x), step = fields()[name], places(), 1e-5
    by_time = (field.log_prob(t + step, x) - field.log_prob(t - step, x)) / (2 * step)
    transport, divergence = torch.zeros_like(t), torch.zeros_like(t)
    for axis in range(2):
        ahead, behind = x.clone(), x.clone()
        ahead[:, axis] += step
        behind[:, axis] -= step
        slope = (field.log_prob(t, ahead) - field.log_prob(t, behind)) / (2 * step)
        transport += field(t, x)[:, axis] * slope
        divergence += (field(t, ahead) - field(t, behind))[:, axis] / (2 * step)
    size = transport.abs() + divergence.abs() + by_time.abs()
    assert float(((by_time + transport + divergence) / size).abs().max()) < 1e-6


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_score_is_the_gradient_of_the_log_density(name: str) -> None:
    field, (t, x) = fields()[name], places()
    x = x.requires_grad_()
    gradient = torch.autograd.grad(field.log_prob(t, x).sum(), x)[0]
    torch.testing.assert_close(field.score(t, x), gradient, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_field_is_the_weighted_mean_of_conditional_velocities(name: str) -> None:
    """Eq. 11 as it is written, with densities, one point after the other."""
    field, (t, x) = fields()[name], places()
    weights = torch.tensor([0.1, 0.3, 0.2, 0.0, 0.4]).double()
    alpha, sigma, _, _ = (v[:, None] for v in field.path.schedule(t))
    top, bottom = torch.zeros_like(x), torch.zeros_like(x[:, :1])
    for weight, x1 in zip(weights, points()):
        density = (
            weight * torch.exp(-(x - alpha * x1).square().sum(1, keepdim=True) / (2 * sigma**2)) / sigma**2
        )
        top += density * field.path.velocity(x, x1.expand_as(x), t)
        bottom += density
    expected = top / bottom
    found = bottom[:, 0] > 1e-250
    assert int(found.sum()) > 20
    torch.testing.assert_close(field(t, x)[found], expected[found], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", SCHEDULES)
def test_conversions_of_the_marginal_agree_with_its_own_score_and_data(name: str) -> None:
    field, (t, x) = fields()[name], places()
    known = {"velocity": field(t, x), "score": field.score(t, x), "data": field.data(t, x)}
    for source, value in known.items():
        for to, expected in known.items():
            found = field.path.convert(value, x, t, source, to)
            torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7, msg=f"{source} → {to}")


def test_far_from_all_points_and_in_small_chunks_the_field_stays_exact(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    field = flow.MarginalField(points(), flow.CondOT(sigma_min=1e-4))
    x = torch.cat([points() + 1e-5, 1e4 * points()])
    whole = field(torch.full((10,), 0.9999, dtype=torch.float64), x)
    monkeypatch.setattr("fingerpost.flow.marginal.CHUNK", 7)
    chunked = field(torch.full((10,), 0.9999, dtype=torch.float64), x)
    assert whole.isfinite().all()
    torch.testing.assert_close(chunked, whole, rtol=1e-12, atol=0)


def test_float32_places_give_the_float64_field() -> None:
    field = flow.MarginalField(points().float(), flow.CondOT(sigma_min=1e-3))
    exact = flow.MarginalField(points().float().double(), flow.CondOT(sigma_min=1e-3))
    t, x = torch.full((50,), 0.99), field.sample(50, 0.99, torch.Generator().manual_seed(0))
    found, expected = field(t, x), exact(t.double(), x.double())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)


def test_samples_have_the_moments_of_the_mixture() -> None:
    weights = torch.tensor([0.1, 0.3, 0.2, 0.0, 0.4]).double()
    field = flow.MarginalField(points(), flow.CondOT(sigma_min=0.1), weights)
    x = field.sample(100_000, 0.6, torch.Generator().manual_seed(0))
    mean = weights @ points()
    spread = (weights @ points().square()) - mean**2
    torch.testing.assert_close(x.mean(0), 0.6 * mean, rtol=0, atol=0.01)
    torch.testing.assert_close(x.var(0), 0.36 * spread + (1 - 0.9 * 0.6) ** 2, rtol=0.02, atol=0)


def test_the_density_integrates_to_one_and_is_the_mixture_s_at_the_data() -> None:
    field = fields()["straight"]
    grid = torch.linspace(-6, 6, 481, dtype=torch.float64)
    x = torch.cartesian_prod(grid, grid)
    for t in (0.0, 0.5, 1.0):
        assert float(field.log_prob(t, x).exp().sum() * 0.025**2) == pytest.approx(1, abs=1e-6)
    weights = torch.tensor([0.1, 0.3, 0.2, 0.0, 0.4]).double()
    kernels = torch.exp(-torch.cdist(x, points()).square() / (2 * 0.05**2)) / (2 * math.pi * 0.05**2)
    torch.testing.assert_close(field.log_prob(1.0, x).exp(), kernels @ weights, rtol=1e-7, atol=1e-12)


def model(width: int = 8) -> torch.nn.Module:
    class Field(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = torch.nn.Sequential(
                torch.nn.Linear(3, width), torch.nn.Tanh(), torch.nn.Linear(width, 2)
            )

        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            return self.net(torch.cat([t[:, None], x], 1))

    torch.manual_seed(0)
    return Field().double()


def gradient(loss: Tensor, net: torch.nn.Module) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))])


@pytest.mark.parametrize("name", ["straight", "trigonometric", "variance preserving"])
def test_by_quadrature_both_losses_have_one_gradient_and_differ_by_the_gap(name: str) -> None:
    """Eq. 13, to the quadrature's accuracy; and what the losses differ by does not depend on the model."""
    wide = {
        "straight": flow.CondOT(sigma_min=0.5), "trigonometric": flow.Trigonometric(),
        "variance preserving": flow.VariancePreserving(beta_min=0.5, beta_max=3.0, cutoff=0.3),
    }[name]  # fmt: skip
    if name == "trigonometric":
        wide.time_range = (0.0, 0.7)
    field = flow.MarginalField(points(), wide)
    nodes = field.quadrature(times=12, points=24)
    assert float(nodes.weight.sum()) == pytest.approx(1, abs=1e-12)
    gap = field.gap(nodes)
    for width in (3, 8):
        net = model(width)
        exact, conditional = field.fm_loss(net, nodes), field.cfm_loss(net, nodes)
        torch.testing.assert_close(conditional - exact, gap, rtol=1e-5, atol=0)
        torch.testing.assert_close(gradient(conditional, net), gradient(exact, net), rtol=1e-4, atol=1e-5)
    assert float(gap) > 0.05


def test_quadrature_and_draws_agree_within_the_noise_of_draws() -> None:
    field, net = flow.MarginalField(points(), flow.CondOT(sigma_min=0.3)), model()
    nodes, drawn = field.quadrature(), field.draw(100_000, torch.Generator().manual_seed(0))
    for loss in (field.fm_loss, field.cfm_loss):
        assert float(loss(net, drawn).detach()) == pytest.approx(float(loss(net, nodes).detach()), rel=0.02)
    assert float(field.gap(drawn)) == pytest.approx(float(field.gap(nodes)), rel=0.02)
    by_default = field.fm_loss(net, n=100_000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(by_default, field.fm_loss(net, drawn))


def test_the_field_itself_has_no_flow_matching_loss_and_any_other_has() -> None:
    field = flow.MarginalField(points(), flow.CondOT(sigma_min=0.3))
    nodes = field.quadrature()
    assert float(field.fm_loss(field, nodes)) == 0
    assert float(field.fm_loss(lambda t, x: 1.01 * field(t, x), nodes)) > 0


def test_solving_the_ode_of_the_field_reproduces_the_mixture() -> None:
    """Samples of N(0, I) carried to t = 1 have the mixture's likelihood, and fall to the points by their weights."""
    from fingerpost import ode

    weights = torch.tensor([0.1, 0.3, 0.2, 0.0, 0.4])
    field = flow.MarginalField(points(), flow.CondOT(sigma_min=0.05), weights)
    x0 = torch.randn(2000, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    with torch.no_grad():
        x1 = ode.solve(field, x0, [0.0, 1.0], rtol=1e-6, atol=1e-6).ys[-1]
    share = torch.bincount(torch.cdist(x1, points()).argmin(1), minlength=5) / 2000
    torch.testing.assert_close(share, weights, rtol=0, atol=4 * 0.5 / math.sqrt(2000))
    exact = field.sample(2000, 1.0, torch.Generator().manual_seed(5))
    scores = [flow.nll(lambda x: field.log_prob(1.0, x), x) for x in (x1, exact)]
    assert scores[0] == pytest.approx(scores[1], abs=0.15)
    again = ode.solve(field, x1, [1.0, 0.0], rtol=1e-8, atol=1e-8).ys[-1]
    torch.testing.assert_close(again, x0, rtol=1e-3, atol=1e-3)


def test_bad_input_is_refused() -> None:
    x1 = points()
    with pytest.raises(InvalidTypeError, match="paths with a schedule"):
        flow.MarginalField(x1, flow.Bridge(0.5))  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidValueError, match="rows 1"):
        flow.MarginalField(torch.tensor([[0.0], [math.nan]]))
    with pytest.raises(ShapeError, match="weights has shape"):
        flow.MarginalField(x1, weights=torch.ones(4))
    for weights in (-torch.ones(5), torch.zeros(5), torch.full((5,), math.nan)):
        with pytest.raises(InvalidValueError, match="weights must be"):
            flow.MarginalField(x1, weights=weights)
    field = flow.MarginalField(x1, flow.CondOT())
    with pytest.raises(ShapeError, match=r"x has shape \(4, 3\); expected \(B, 2"):
        field(0.5, torch.zeros(4, 3))
    with pytest.raises(InvalidValueError, match="t reaches"):
        field(1.5, x1)
    with pytest.raises(InvalidValueError, match="σ is 0"):
        field.log_prob(1.0, x1)
    with pytest.raises(ShapeError, match="too many nodes"):
        flow.MarginalField(torch.randn(10, 6)).quadrature()
    with pytest.raises(ShapeError, match="the model returned"):
        field.fm_loss(lambda t, x: x[:, :1], n=4)
