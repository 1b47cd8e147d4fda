"""Samples, trajectories and log densities against closed forms; guidance against its formula."""

import itertools
import math

import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal

from fingerpost.errors import InvalidTypeError, InvalidValueError, NumericalError, ShapeError
from fingerpost.flow import (
    CondOT,
    FlowMLP,
    GaussianStart,
    Guided,
    VarianceExploding,
    drop_condition,
    log_prob,
    sample,
    trajectory,
)
from fingerpost.ode import CNF, METHODS, ExplicitRungeKutta

MATRIX = torch.tensor([[0.3, -0.8], [0.5, -0.1]], dtype=torch.float64)
EXPLICIT = [name for name, kind in METHODS.items() if issubclass(kind, ExplicitRungeKutta)]


def linear(t, x):
    """ẋ = A x: x(1) = e^A x(0), a normal with covariance e^A e^Aᵀ."""
    return x @ MATRIX.T


def noise(n=7, seed=0):
    return torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def exact():
    flow = torch.linalg.matrix_exp(MATRIX)
    return flow, MultivariateNormal(torch.zeros(2, dtype=torch.float64), flow @ flow.T)


@pytest.mark.parametrize("method", EXPLICIT)
def test_fixed_steps_converge_with_the_order_of_the_method(method):
    flow, _ = exact()
    x0 = noise()
    order = METHODS[method].order
    few = 4 if order > 3 else 16
    if order > 6:
        few = 1
    errors = [
        float((sample(linear, x0, steps=steps, method=method) - x0 @ flow.T).abs().max())
        for steps in (few, 2 * few)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.6)


def test_chosen_steps_reach_their_tolerance():
    flow, _ = exact()
    x0 = noise()
    torch.testing.assert_close(sample(linear, x0, rtol=1e-8, atol=1e-9), x0 @ flow.T, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("options", [{}, {"steps": 40, "method": "rk4"}, {"method": "tsit5"}])
def test_the_likelihood_on_the_way_and_on_the_way_back_are_the_closed_form(options):
    _, law = exact()
    x1, density = sample(linear, noise(), log_prob=True, **options)
    torch.testing.assert_close(density, law.log_prob(x1), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(log_prob(linear, x1, **options), law.log_prob(x1), rtol=1e-4, atol=1e-4)


def test_the_log_density_is_that_of_the_continuous_normalising_flow():
    net = GaussianStart(FlowMLP(2, 16, 1)).double()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    base = Independent(Normal(torch.zeros(2, dtype=torch.float64), 1.0), 1)
    reference = CNF(net, base, rtol=1e-8, atol=1e-9)
    x1 = noise()
    torch.testing.assert_close(
        log_prob(net, x1, rtol=1e-8, atol=1e-9), reference.log_prob(x1).detach(), rtol=1e-6, atol=1e-6
    )


def test_hutchinsons_estimate_is_unbiased_for_the_log_density():
    x1 = noise(1).expand(4000, 2).clone()
    generator = torch.Generator().manual_seed(0)
    skewed = log_prob(linear, x1, steps=4, method="rk4", divergence="hutchinson", generator=generator)
    truth = log_prob(linear, x1[:1], steps=4, method="rk4")
    error = float(skewed.std()) / math.sqrt(len(x1))
    assert float(skewed.std()) > 0.1
    assert abs(float(skewed.mean() - truth)) < 4 * error


def test_steps_may_be_given_as_times_and_times_run_from_noise_to_data_for_densities_too():
    grid = [0.0, 0.1, 0.3, 0.6, 1.0]
    x0 = noise()
    expected = x0
    for start, end in itertools.pairwise(grid):
        expected = expected + (end - start) * linear(None, expected)
    torch.testing.assert_close(sample(linear, x0, steps=grid), expected)
    seen = []

    def watched(t, x):
        seen.append(float(t))
        return linear(t, x)

    log_prob(watched, x0, steps=grid)
    assert seen[0] == 1.0
    assert seen == sorted(seen, reverse=True)


@pytest.mark.parametrize(("method", "stages"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("rk4", 4)])
def test_fixed_steps_evaluate_the_field_as_often_as_the_method_has_stages(method, stages):
    calls = []

    def counted(t, x):
        assert t.shape == ()
        calls.append(float(t))
        return -x

    sample(counted, noise(), steps=10, method=method)
    assert len(calls) == 10 * stages
    assert calls[0] == 0.0
    assert max(calls) <= 1.0


def test_a_path_gives_the_width_of_the_noise_and_the_range_of_times():
    path = VarianceExploding(0.1, 20.0)
    net = FlowMLP(2, 8, 1)
    x = sample(net, 4000, steps=1, path=path, generator=torch.Generator().manual_seed(0))  # the zero field
    assert float(x.std()) == pytest.approx(20.0, rel=0.05)
    density = log_prob(net, x[:3], steps=1, path=path)
    torch.testing.assert_close(density, Normal(0.0, 20.0).log_prob(x[:3]).sum(1))
    seen = []
    sample(lambda t, x: (seen.append(float(t)), x)[1], noise(), steps=2, time_range=(0.25, 0.75))
    assert seen == [0.25, 0.5]


def test_a_base_of_ones_own_is_used():
    base = Independent(Normal(torch.ones(2, dtype=torch.float64), 2.0), 1)
    x = noise()
    torch.testing.assert_close(log_prob(lambda t, x: 0 * x, x, base=base), base.log_prob(x))
    torch.testing.assert_close(sample(lambda t, x: 0 * x, x, base=base, log_prob=True)[1], base.log_prob(x))


def test_a_trajectory_begins_with_the_noise_and_ends_with_the_sample():
    x0 = noise()
    states = trajectory(linear, x0, [0.0, 0.5, 1.0], rtol=1e-8, atol=1e-9)
    half = torch.linalg.matrix_exp(MATRIX / 2)
    torch.testing.assert_close(states[0], x0)
    torch.testing.assert_close(states[1], x0 @ half.T, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(states[2], sample(linear, x0, rtol=1e-8, atol=1e-9), rtol=1e-6, atol=1e-7)


def test_samples_repeat_under_a_generator_and_leave_the_global_one_alone():
    net = FlowMLP(2, 8, 1)
    before = torch.get_rng_state()
    draws = [sample(net, 5, steps=2, generator=torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(draws[0], draws[1])
    assert torch.equal(torch.get_rng_state(), before)


class Counted(torch.nn.Module):
    """v = c + x + t, in numbers, and how often it was called with how many rows."""

    def __init__(self):
        super().__init__()
        self.rows = []
        self.null = 7

    def forward(self, t, x, condition):
        self.rows.append(len(x))
        return condition[:, None] + x + t.reshape(-1, 1)


@pytest.mark.parametrize("weight", [-0.5, 0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("time", [torch.tensor(0.5), torch.tensor([0.1, 0.2, 0.9])])
def test_guidance_is_its_formula_from_one_call(weight, time):
    model, x, c = Counted(), torch.arange(6.0).view(3, 2), torch.tensor([1, 2, 3])
    null = torch.full((3,), 7)
    free, conditional = model(time, x, null), model(time, x, c)
    model.rows.clear()
    torch.testing.assert_close(Guided(model, c, weight)(time, x), free + weight * (conditional - free))
    assert model.rows == ([6] if weight not in (0.0, 1.0) else [3])


def test_one_class_serves_all_rows_and_likelihoods_take_guidance_too():
    net = FlowMLP(2, 8, 1, classes=3).double()
    x1, density = sample(net, noise(4), steps=3, condition=torch.tensor(1), guidance=2.0, log_prob=True)
    assert x1.shape == (4, 2)
    torch.testing.assert_close(log_prob(net, x1, steps=3, condition=torch.tensor(1), guidance=2.0), density)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_conditions_are_dropped_with_the_given_probability(probability):
    condition = torch.arange(20_000) % 5
    dropped = drop_condition(condition, probability, 5, torch.Generator().manual_seed(0))
    kept = dropped != 5
    assert float((~kept).double().mean()) == pytest.approx(probability, abs=0.015)
    assert torch.equal(dropped[kept], condition[kept])
    vectors = drop_condition(torch.ones(4, 3), 1.0, torch.zeros(3))
    assert (vectors == 0).all()


BAD = [
    (lambda: sample(linear, 5), InvalidTypeError, "no event_shape"),
    (lambda: sample(FlowMLP(2, 8, 1), 0), InvalidValueError, "at least 1 sample"),
    (lambda: sample(linear, noise() * float("nan")), InvalidValueError, "rows 0, 1, 2"),
    (lambda: sample(linear, noise(), steps=0), InvalidValueError, "steps is 0"),
    (lambda: sample(linear, noise(), steps=[0.0, 0.7, 0.4, 1.0]), InvalidValueError, "rise strictly"),
    (lambda: sample(linear, noise(), steps=[0.1, 1.0]), InvalidValueError, "from 0 to 1"),
    (lambda: sample(linear, noise(), steps=[]), InvalidValueError, "got 0 times"),
    (lambda: sample(linear, noise(), steps=3, method="eulr"), InvalidValueError, "did you mean 'euler'"),
    (lambda: sample(linear, noise(), steps=3, method="kvaerno5"), InvalidValueError, "fixed steps"),
    (lambda: sample(linear, noise(), time_range=(0.5, 1.5)), InvalidValueError, "time_range"),
    (lambda: sample(linear, noise(), guidance=2.0), InvalidValueError, "no condition is given"),
    (lambda: sample(lambda t, x, c: x, noise(), condition=torch.tensor(1), guidance=2.0), InvalidValueError, "null="),
    (lambda: sample(Counted(), noise(), steps=1, condition=torch.tensor([1, 2])), ShapeError, "2 rows and x 7"),
    (lambda: sample(lambda t, x: x / 0, noise(), steps=2), NumericalError, "7 of 7 samples are not finite"),
    (lambda: log_prob(linear, noise(), base=Normal(torch.zeros(2), 1.0)), ShapeError, "Independent"),
    (lambda: log_prob(linear, noise()[0]), ShapeError, "one sample a row"),
    (lambda: drop_condition(torch.arange(3), 1.5, 0), InvalidValueError, "probability is 1.5"),
    (lambda: sample(linear, noise(), path=CondOT(), time_range=(0.8, 0.2)), InvalidValueError, "time_range"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "said"), BAD)
def test_what_cannot_be_sampled_is_refused_by_name(call, error, said):
    with pytest.raises(error, match=said):
        call()
