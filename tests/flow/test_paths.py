"""Paths: velocities against autograd and against float64, conversions, ranges, and the source's printed formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fingerpost import flow
from fingerpost.errors import InvalidValueError, ShapeError

SCHEDULES = {
    "straight": flow.CondOT(),
    "straight, wide": flow.CondOT(sigma_min=0.1),
    "variance preserving": flow.VariancePreserving(),
    "variance preserving, constant": flow.VariancePreserving(beta_min=5.0, beta_max=5.0),
    "variance exploding": flow.VarianceExploding(sigma_min=0.01, sigma_max=20.0),
    "trigonometric": flow.Trigonometric(),
}
PATHS = {
    **SCHEDULES,
    "the user's own": flow.GaussianPath(lambda t, x1: t**2 * x1, lambda t, x1: 1 - 0.9 * t),
    "the user's own, by place": flow.GaussianPath(
        lambda t, x1: torch.sin(t * x1), lambda t, x1: torch.exp(-t * x1.square().mean(1, keepdim=True))
    ),
    "bridge": flow.Bridge(sigma=0.7),
    "bridge without noise": flow.Bridge(sigma=0.0),
}


def points(
    n: int = 7, d: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x0, x1 = torch.randn(2, n, d, generator=generator, dtype=dtype)
    return x0, x1


def inner_times(path: flow.AbstractPath, n: int = 7) -> Tensor:
    low, high = path.time_range
    return torch.linspace(low + 0.03 * (high - low), high - 0.03 * (high - low), n, dtype=torch.float64)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(5)


@pytest.mark.parametrize("name", PATHS)
def test_the_target_is_the_derivative_of_the_sample_by_time(name: str) -> None:
    path, (x0, x1) = PATHS[name], points()
    t, step = inner_times(path), 1e-5
    ahead, behind = (path.sample(x0, x1, t + h, generator=seeded()) for h in (step, -step))
    target = path.target(x0, x1, t, generator=seeded())
    torch.testing.assert_close((ahead - behind) / (2 * step), target, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", [name for name in PATHS if not name.startswith("bridge")])
def test_the_velocity_at_the_sample_is_the_target(name: str) -> None:
    path, (x0, x1) = PATHS[name], points()
    x, target = path.sample_and_target(x0, x1, inner_times(path))
    torch.testing.assert_close(path.velocity(x, x1, inner_times(path)), target, rtol=1e-9, atol=1e-9)


def test_the_velocity_of_a_bridge_at_its_sample_is_its_target() -> None:
    path, (x0, x1) = flow.Bridge(0.7), points()
    t = inner_times(path)
    x, target = path.sample_and_target(x0, x1, t, generator=seeded())
    torch.testing.assert_close(path.velocity(x, x1, t, x0=x0), target, rtol=1e-9, atol=1e-9)
    with pytest.raises(ShapeError, match="both ends"):
        path.velocity(x, x1, t)


def test_a_bridge_has_the_mean_and_the_width_of_a_brownian_bridge() -> None:
    x0, x1 = torch.zeros(200_000, 1), torch.full((200_000, 1), 3.0)
    x = flow.Bridge(0.5).sample(x0, x1, 0.25, generator=seeded())
    assert float(x.mean()) == pytest.approx(0.75, abs=4 * 0.5 * math.sqrt(0.1875 / 200_000))
    assert float(x.std()) == pytest.approx(0.5 * math.sqrt(0.25 * 0.75), rel=0.01)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_velocity_in_float32_is_within_1e_6_of_float64_on_the_whole_time_range(name: str) -> None:
    path = SCHEDULES[name]
    x0, x1 = points(4096, 2, dtype=torch.float32)
    t = _dense_times(path, 4096)
    x = path.sample(x0, x1, t)
    exact = path.velocity(x.double(), x1.double(), t.double())
    error = (path.velocity(x, x1, t).double() - exact).norm(dim=1) / exact.norm(dim=1)
    assert float(error.max()) < 1e-6


@pytest.mark.parametrize("name", PATHS)
def test_every_target_in_float32_is_within_1e_6_of_float64_on_the_whole_time_range(name: str) -> None:
    path = PATHS[name]
    x0, x1 = points(4096, 2, dtype=torch.float32)
    t = _dense_times(path, 4096)
    x, target = path.sample_and_target(x0, x1, t, generator=seeded())
    noise = torch.randn(x1.shape, generator=seeded()).double()  # the bridge's own, drawn in float32
    exact_x, exact = _in_float64(path, x0, x1, t, noise)
    # relative to the terms: the sum of two opposite terms may be anything
    size = exact.norm(dim=1) + x0.norm(dim=1) + x1.norm(dim=1)
    assert float(((target - exact).norm(dim=1) / size).max()) < 1e-6
    assert float(((x - exact_x).norm(dim=1) / (exact_x.norm(dim=1) + size)).max()) < 1e-6


def _in_float64(
    path: flow.AbstractPath, x0: Tensor, x1: Tensor, t: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    x0, x1, t = x0.double(), x1.double(), t.double()
    if not isinstance(path, flow.Bridge) or not path.sigma:
        return path.sample_and_target(x0, x1, t)
    s = t[:, None]
    x = (1 - s) * x0 + s * x1 + path.sigma * (s * (1 - s)).sqrt() * noise
    return x, path.velocity(x, x1, t, x0=x0)


def _dense_times(path: flow.AbstractPath, n: int) -> Tensor:
    """Half evenly, half evenly in log(1 − t), up to the last float32 number in the range where u exists."""
    low, high = path.time_range
    if (
        isinstance(path, (flow.CondOT, flow.Trigonometric))
        and path.schedule(torch.ones(1).double())[1] < 1e-12
    ):
        high = 1 - 2.0**-24
    even = torch.linspace(low, high, n // 2, dtype=torch.float64)
    close = 1 - torch.logspace(math.log10(max(1 - high, 1e-7)), 0, n - n // 2, dtype=torch.float64)
    return torch.cat([even, close]).clamp(low, high).float().clamp(low, high)


def test_one_minus_alpha_squared_in_float32_is_tens_of_percent_wrong_near_the_data_and_expm1_is_not() -> None:
    path = flow.VariancePreserving()
    t = (1 - torch.logspace(-5.7, -4.5, 50, dtype=torch.float64)).float()
    alpha, sigma, _, _ = path.schedule(t.double())
    s = 1 - t.double()
    total = path.beta_min * s + 0.5 * (path.beta_max - path.beta_min) * s * s
    exact = total - total**2 / 2  # to the third order of 1e-6
    assert float(((1 - alpha.float() ** 2) / exact - 1).abs().max()) > 0.15
    torch.testing.assert_close(sigma**2, exact, rtol=1e-10, atol=0.0)


def test_the_printed_variance_preserving_field_has_the_wrong_sign_if_the_prime_is_d_by_dt() -> None:
    path, (x0, x1) = flow.VariancePreserving(beta_min=0.1, beta_max=20.0), points()
    t = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    x = path.sample(x0, x1, 0.4)

    def total(s: Tensor) -> Tensor:
        return path.beta_min * s + 0.5 * (path.beta_max - path.beta_min) * s * s

    s = (1 - t).detach().requires_grad_()
    evaluated = torch.autograd.grad(total(s), s)[0]  # T′ at 1 − t
    composed = torch.autograd.grad(total(1 - t), t)[0]  # d/dt of T(1 − t)
    big = total(s).detach()
    bracket = (torch.exp(-big) * x - torch.exp(-big / 2) * x1) / (1 - torch.exp(-big))
    torch.testing.assert_close(-evaluated / 2 * bracket, path.velocity(x, x1, 0.4), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(-composed / 2 * bracket, -path.velocity(x, x1, 0.4), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in SCHEDULES if "exploding" not in name])
def test_a_path_starts_at_noise_and_ends_at_data(name: str) -> None:
    path, (x0, x1) = SCHEDULES[name], points()
    low, high = path.time_range
    start, end = path.sample(x0, x1, low), path.sample(x0, x1, high)
    tolerance = math.exp(-0.5 * 5.0) if name.endswith("constant") else 0.01  # VP starts at N(α₀ x₁, 1 − α₀²)
    assert float((start - x0).norm() / x0.norm()) < 1.2 * tolerance
    assert float((end - x1).norm() / x1.norm()) < 0.12 if name == "straight, wide" else 0.01


def test_the_variance_exploding_path_starts_around_the_data_and_says_so() -> None:
    path, (x0, x1) = flow.VarianceExploding(0.01, 20.0), points()
    torch.testing.assert_close(path.sample(x0, x1, 0.0), x1 + 20 * x0)
    assert path.prior_std == pytest.approx(20.0)
    assert flow.CondOT().prior_std == 1.0


WORDS = ("velocity", "score", "noise", "data")


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("source", WORDS)
@pytest.mark.parametrize("to", WORDS)
def test_conversions_go_there_and_back(name: str, source: str, to: str) -> None:
    path, (value, x) = SCHEDULES[name], points()
    t = inner_times(path)
    there = path.convert(value, x, t, source, to)
    # score ↔ data divides by α/σ², which for the exploding path is 400² at t = 0
    torch.testing.assert_close(path.convert(there, x, t, to, source), value, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", SCHEDULES)
def test_conversions_agree_with_the_closed_form_of_a_gaussian(name: str) -> None:
    """Data N(m, s²): the marginal is N(α m, α² s² + σ²), so all four predictions are known."""
    path, m, s = SCHEDULES[name], 0.7, 1.3
    t, (_, x) = inner_times(path), points()
    alpha, sigma, alpha_dot, sigma_dot = (v[:, None] for v in path.schedule(t))
    variance = alpha**2 * s**2 + sigma**2
    centered = x - alpha * m
    known = {
        "score": -centered / variance,
        "noise": sigma * centered / variance,
        "data": m + alpha * s**2 * centered / variance,
        # the flow of a Gaussian is affine: x − αm scales with the standard deviation
        "velocity": alpha_dot * m + (alpha * alpha_dot * s**2 + sigma * sigma_dot) / variance * centered,
    }
    for source in WORDS:
        for to in WORDS:
            found = path.convert(known[source], x, t, source, to)
            torch.testing.assert_close(found, known[to], rtol=1e-9, atol=1e-9, msg=f"{source} → {to}")


def test_a_conversion_that_does_not_exist_is_refused() -> None:
    path, (value, x) = flow.CondOT(), points()
    with pytest.raises(InvalidValueError, match="α is 0"):
        path.convert(value, x, 0.0, "noise", "data")
    with pytest.raises(InvalidValueError, match="σ is 0"):
        path.convert(value, x, 1.0, "data", "score")
    with pytest.raises(InvalidValueError, match="did you mean 'velocity'"):
        path.convert(value, x, 0.5, "velocty", "data")


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("t", [-0.01, 1.01, math.nan])
def test_times_outside_the_range_are_refused_with_the_range(name: str, t: float) -> None:
    path, (x0, x1) = PATHS[name], points()
    with pytest.raises(InvalidValueError, match=r"is defined on \["):
        path.sample_and_target(x0, x1, t)


def test_times_are_clamped_on_request() -> None:
    path, (x0, x1) = flow.VariancePreserving(cutoff=1e-3), points()
    with pytest.raises(InvalidValueError, match="clamp"):
        path.target(x0, x1, 1.0)
    assert path.target(x0, x1, path.clamp(torch.tensor(1.0))).isfinite().all()


@pytest.mark.parametrize("cutoff", [1e-5, 1e-3, 0.1])
def test_the_cutoff_itself_is_inside_in_float32_and_in_float64(cutoff: float) -> None:
    x0, x1 = points()
    for path in (flow.VariancePreserving(cutoff=cutoff), flow.Bridge(0.5, cutoff=cutoff)):
        for dtype in (torch.float32, torch.float64):
            assert path.sample(x0, x1, torch.tensor(1 - cutoff, dtype=dtype)).isfinite().all()


@pytest.mark.parametrize("name", ["straight", "trigonometric"])
def test_the_velocity_at_the_data_is_refused_where_it_is_infinite(name: str) -> None:
    path, (x0, x1) = SCHEDULES[name], points()
    with pytest.raises(InvalidValueError, match="infinite at t = 1"):
        path.velocity(x1, x1, 1.0)
    assert path.target(x0, x1, 1.0).isfinite().all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: flow.CondOT(sigma_min=1.0),
        lambda: flow.CondOT(sigma_min=-0.1),
        lambda: flow.VariancePreserving(beta_min=0.0),
        lambda: flow.VariancePreserving(beta_min=2.0, beta_max=1.0),
        lambda: flow.VariancePreserving(cutoff=0.0),
        lambda: flow.VarianceExploding(sigma_min=0.0),
        lambda: flow.VarianceExploding(sigma_min=2.0, sigma_max=1.0),
        lambda: flow.Bridge(sigma=-1.0),
        lambda: flow.Bridge(sigma=1.0, cutoff=0.5),
        lambda: flow.GaussianPath(lambda t, x: x, lambda t, x: t, time_range=(0.5, 0.5)),
    ],
)
def test_settings_out_of_range_are_refused(make) -> None:
    with pytest.raises(InvalidValueError, match="expected"):
        make()


def test_shapes_that_do_not_fit_are_refused() -> None:
    path, (x0, x1) = flow.CondOT(), points()
    with pytest.raises(ShapeError, match="in pairs"):
        path.sample(x0[:3], x1, 0.5)
    with pytest.raises(ShapeError, match="3 times and x 7 rows"):
        path.sample(x0, x1, torch.rand(3))
    with pytest.raises(ShapeError, match=r"t has shape \(7, 3\)"):
        path.sample(x0, x1, torch.rand(7, 3))
    wrong = flow.GaussianPath(lambda t, x: x[:, :1], lambda t, x: t)
    with pytest.raises(ShapeError, match="mean returned shape"):
        wrong.sample(x0, x1, 0.5)


@pytest.mark.parametrize("name", PATHS)
def test_images_and_times_of_each_row_broadcast(name: str) -> None:
    path = PATHS[name] if "place" not in name else flow.CondOT()
    x0, x1 = torch.randn(2, 4, 1, 3, 3, generator=seeded(), dtype=torch.float64)
    t = inner_times(path, 4)
    whole = path.sample_and_target(x0, x1, t, generator=seeded())
    assert all(part.shape == x1.shape and part.dtype == x1.dtype for part in whole)
    if not isinstance(path, flow.Bridge):
        torch.testing.assert_close(path.sample(x0[2:3], x1[2:3], t[2]), whole[0][2:3])
