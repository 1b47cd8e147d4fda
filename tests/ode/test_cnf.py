import math
from typing import Any, ClassVar

import pytest
import torch
from torch import nn
from torch.distributions import Distribution, Gamma, Independent, MultivariateNormal, Normal, constraints

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.ode.cnf import CNF

TIGHT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-10}
MATRIX = torch.tensor([[-0.3, 0.8, 0.1], [-0.5, 0.4, 0.0], [0.2, -0.1, 0.6]], dtype=torch.float64)
SHIFT = torch.tensor([0.5, -1.0, 0.2], dtype=torch.float64)
GRADIENTS = ["tape", "checkpoint", "backsolve"]


def standard(size=2, dtype=torch.float64):
    return Independent(Normal(torch.zeros(size, dtype=dtype), torch.ones(size, dtype=dtype)), 1)


def linear(t, z):
    return z @ MATRIX.T + SHIFT


def linear_exact():
    """ż = Az + b from N(0, 1): mean ∫ e^{A(1−s)} b ds, covariance e^A e^{Aᵀ}."""
    block = torch.zeros(4, 4, dtype=torch.float64)
    block[:3, :3], block[:3, 3] = MATRIX, SHIFT
    moved = torch.linalg.matrix_exp(block)
    return MultivariateNormal(moved[:3, 3], moved[:3, :3] @ moved[:3, :3].T)


class Field(nn.Module):
    def __init__(self, size=2, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.net = nn.Sequential(nn.Linear(size + 1, 8), nn.Tanh(), nn.Linear(8, size)).double()

    def forward(self, t, z):
        return 2 * self.net(torch.cat([z, t.expand(len(z), 1)], 1))


def points(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("divergence", ["exact", "exact-vjp", "exact-jvp"])
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_a_linear_field_gives_its_gaussian(divergence, gradient):
    x = points(7, 3)
    flow = CNF(linear, standard(3), divergence=divergence, gradient=gradient, **TIGHT)
    assert torch.allclose(flow.log_prob(x), linear_exact().log_prob(x), rtol=0, atol=1e-6)


def test_the_trace_of_a_linear_field_is_the_same_for_every_probe_on_its_diagonal():
    rates = torch.tensor([0.5, -1.0, 0.25], dtype=torch.float64)
    flow = CNF(lambda t, z: z * rates, standard(3), divergence="hutchinson", probes=2, **TIGHT)
    exact = Independent(Normal(torch.zeros(3).double(), rates.exp()), 1)
    x = points(5, 3)
    assert torch.allclose(flow.log_prob(x), exact.log_prob(x), atol=1e-7)


def test_hutchinsons_log_density_is_right_in_the_mean():
    x, exact = points(1, 3), linear_exact()
    generator = torch.Generator().manual_seed(0)
    flow = CNF(linear, standard(3), divergence="hutchinson", generator=generator)
    values = flow.log_prob(x.expand(2000, 3))
    assert abs(values.mean() - exact.log_prob(x)) < 4 * values.std() / math.sqrt(2000) + 1e-4
    assert values.std() > 0.1


def test_a_learned_density_in_the_plane_integrates_to_one():
    edges = torch.linspace(-8, 8, 161, dtype=torch.float64)
    grid = torch.cartesian_prod(edges, edges)
    with torch.no_grad():
        density = CNF(Field(), standard(), rtol=1e-6, atol=1e-8).log_prob(grid).exp()
    assert density.sum() * 0.1**2 == pytest.approx(1, abs=1e-6)
    assert density.max() > 0.1


def test_samples_carry_the_density_that_log_prob_gives_them():
    torch.manual_seed(0)
    flow = CNF(Field(), standard(), **TIGHT)
    x, log_prob = flow.sample_with_log_prob((4, 3))
    assert x.shape == (4, 3, 2)
    assert log_prob.shape == (4, 3)
    assert torch.allclose(log_prob, flow.log_prob(x), atol=1e-7)


def test_samples_follow_the_density():
    torch.manual_seed(0)
    x, exact = CNF(linear, standard(3)).sample((20_000,)), linear_exact()
    scale = exact.variance.sqrt()
    assert ((x.mean(0) - exact.mean) / scale).abs().max() < 4 / math.sqrt(len(x))
    assert ((torch.cov(x.T) - exact.covariance_matrix) / scale.outer(scale)).abs().max() < 6 / math.sqrt(
        len(x)
    )


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_gradients_of_log_prob_pass_gradcheck(gradient):
    field, x = Field(), points(2, 2).requires_grad_()
    location = torch.zeros(2, dtype=torch.float64, requires_grad=True)

    def log_prob(x, location, *_):
        base = Independent(Normal(location, 1.0), 1)
        return CNF(field, base, gradient=gradient, rtol=1e-10, atol=1e-11).log_prob(x)

    assert torch.autograd.gradcheck(log_prob, (x, location, *field.parameters()), atol=2e-6, fast_mode=True)


def test_gradients_of_log_prob_can_be_differentiated_again_on_the_tape():
    field, x = Field(), points(2, 2).requires_grad_()
    flow = CNF(field, standard(), gradient="tape", rtol=1e-8, atol=1e-8)
    assert torch.autograd.gradgradcheck(
        lambda x, *_: flow.log_prob(x), (x, *field.parameters()), atol=1e-5, fast_mode=True
    )


def test_reparameterised_samples_carry_gradients_and_plain_ones_none():
    field = Field()
    location = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    flow = CNF(field, Independent(Normal(location, 1.0), 1))
    assert flow.has_rsample
    assert not flow.sample((3,)).requires_grad
    gradients = torch.autograd.grad(flow.rsample((3,)).sum(), [location, *field.parameters()])
    assert all(g.abs().max() > 0 for g in gradients)


class _OnlySamples(Distribution):
    """A base without rsample."""

    arg_constraints: ClassVar = {}  # pyright: ignore[reportAssignmentType]
    support: ClassVar = constraints.real_vector  # pyright: ignore[reportAssignmentType]

    def __init__(self):
        super().__init__(event_shape=torch.Size([2]), validate_args=False)

    def sample(self, sample_shape=torch.Size()):
        return torch.zeros(*sample_shape, 2)

    def log_prob(self, value):
        return -value.square().sum(-1)


def test_a_base_without_rsample_is_said_to_have_none():
    flow = CNF(lambda t, z: -z, _OnlySamples())
    assert not flow.has_rsample
    with pytest.raises(NotImplementedError):
        flow.rsample((2,))
    assert flow.sample_with_log_prob((2,))[0].shape == (2, 2)


def test_shapes_are_those_of_a_torch_distribution():
    base = Independent(Normal(torch.zeros(4, 3, 2), 1.0), 2)
    flow = CNF(lambda t, z: -z, base)
    assert (flow.batch_shape, flow.event_shape) == ((4,), (3, 2))
    assert flow.support.event_dim == 2
    assert flow.sample().shape == (4, 3, 2)
    assert flow.sample((5, 6)).shape == (5, 6, 4, 3, 2)
    assert flow.log_prob(torch.zeros(5, 1, 3, 2)).shape == (5, 4)
    assert flow.log_prob(torch.zeros(3, 2)).shape == (4,)
    assert flow.log_prob(torch.zeros(0, 4, 3, 2)).shape == (0, 4)
    assert flow.sample((0,)).shape == (0, 4, 3, 2)


def test_expand_repeats_the_base():
    flow = CNF(linear, standard(3), **TIGHT)
    wide = flow.expand((5,))
    x = points(5, 3)
    assert wide.batch_shape == (5,)
    assert wide.field is linear
    assert torch.allclose(wide.log_prob(x), flow.log_prob(x))
    assert wide.sample((2,)).shape == (2, 5, 3)


def test_arguments_are_validated_only_when_asked():
    with pytest.raises(ValueError, match="support"):
        CNF(linear, standard(3), validate_args=True).log_prob(torch.full((1, 3), math.nan).double())
    with pytest.raises(ValueError, match="right-most size"):
        CNF(linear, standard(3), validate_args=True).log_prob(torch.zeros(1, 4).double())


def test_the_log_density_is_out_of_the_error_norm_unless_asked():
    calls = []

    def field(t, z):
        calls.append(1)
        return torch.sin(20 * z)

    base, x, counts = standard(), points(20, 2), []
    for inside in (False, True):
        calls.clear()
        with torch.no_grad():
            CNF(field, base, quadrature_in_norm=inside, rtol=1e-4, atol=1e-5).log_prob(x)
        counts.append(len(calls))
    assert counts[0] < counts[1]


def test_options_reach_the_solver_and_times_may_be_any():
    flow = CNF(linear, standard(3), t0=1.0, t1=0.0, method="rk4", step_size=0.01)
    block = torch.linalg.matrix_exp(-MATRIX)
    inverse = CNF(lambda t, z: -linear(t, z), standard(3), method="rk4", step_size=0.01)
    x = points(3, 3)
    assert torch.allclose(flow.log_prob(x), inverse.log_prob(x), atol=1e-10)
    assert torch.allclose(
        flow.log_prob(x).exp().log(),
        MultivariateNormal(
            -torch.linalg.solve(MATRIX, (torch.eye(3).double() - block) @ SHIFT), block @ block.T
        ).log_prob(x),
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("keywords", "error", "match"),
    [
        ({"base": Normal(0.0, 1.0)}, ShapeError, "Independent"),
        ({"base": torch.zeros(2)}, InvalidTypeError, "Tensor"),
        ({"t1": 0.0}, InvalidValueError, "two different"),
        ({"t1": math.inf}, InvalidValueError, "inf"),
        ({"divergence": "exakt"}, InvalidValueError, "did you mean 'exact'"),
        ({"probes": 0}, InvalidValueError, "at least 1"),
    ],
)
def test_bad_arguments_are_named(keywords, error, match):
    with pytest.raises(error, match=match):
        CNF(linear, **{"base": standard(), **keywords})


def test_a_base_on_part_of_space_is_refused_by_its_own_validation():
    base = Gamma(torch.ones(2), torch.ones(2), validate_args=True)  # torch.compile turns the default off
    flow = CNF(lambda t, z: z * 0 - 1, Independent(base, 1, validate_args=True))
    with pytest.raises(ValueError, match="support"):
        flow.log_prob(torch.full((1, 2), -5.0))
