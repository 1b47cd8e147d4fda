"""Implicit reparameterization of any distribution: against explicit paths, references, and itself under transforms."""

from __future__ import annotations

import itertools
import math
import pickle

import pytest
import torch
from torch import distributions as td
from torch import func

from fingerpost import distributions
from fingerpost.distributions import ImplicitReparam, implicit_rsample
from fingerpost.distributions._tracked import plus, times
from fingerpost.errors import InvalidTypeError, InvalidValueError, NumericalError
from fingerpost.experiments import references

FLOAT64 = {"dtype": torch.float64}


def tensor(*values, grad=False):
    return torch.tensor(values if len(values) > 1 else values[0], **FLOAT64, requires_grad=grad)


# The source's own demo, and every location and scale at once.


@pytest.mark.parametrize("method", ["cdf", "score"])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
def test_the_normal_demo_of_the_source_holds_for_any_batch(method, shape):
    """loc.grad is 1 and scale.grad is (z − μ)/σ, for each element."""
    torch.manual_seed(0)
    loc = torch.full(shape, 1.0, **FLOAT64, requires_grad=True)
    scale = torch.full(shape, 2.0, **FLOAT64, requires_grad=True)
    z = ImplicitReparam(td.Normal(loc, scale), method).rsample()
    z.sum().backward()
    torch.testing.assert_close(loc.grad, torch.ones_like(loc), rtol=1e-13, atol=0)
    torch.testing.assert_close(scale.grad, ((z - loc) / scale).detach(), rtol=1e-12, atol=1e-14)


FAMILIES = {
    "normal": (td.Normal, lambda e, a, b: a + b * e, 2),
    "laplace": (td.Laplace, lambda e, a, b: a + b * e, 2),
    "cauchy": (td.Cauchy, lambda e, a, b: a + b * e, 2),
    "gumbel": (td.Gumbel, lambda e, a, b: a + b * e, 2),
    "log-normal": (td.LogNormal, lambda e, a, b: torch.exp(a + b * e.log()), 2),
    "exponential": (lambda a, b: td.Exponential(b), lambda e, a, b: e / b, 2),
    "weibull": (td.Weibull, lambda e, a, b: a * e ** (1 / b), 2),
}
BOTH = pytest.mark.parametrize("method", ["cdf", "score"])
ALL = pytest.mark.parametrize("name", FAMILIES)


def standard(name):
    make = FAMILIES[name][0]
    return make(tensor(1.0), tensor(1.0)) if name == "weibull" else make(tensor(0.0), tensor(1.0))


def implicit_and_explicit(name, method, order, count=40):
    """The same samples, moved implicitly and by their formula."""
    make, path, _ = FAMILIES[name]
    a, b = tensor(0.7, grad=True), tensor(1.6, grad=True)
    torch.manual_seed(1)
    noise = standard(name).sample((count,))
    value = path(noise, a, b).detach()
    wrapped = ImplicitReparam(make(a, b), method, order)
    wrapped.sample = lambda shape=(): value
    return wrapped.rsample((count,)), path(noise, a, b), (a, b)


@ALL
@BOTH
def test_first_and_second_derivatives_are_those_of_the_explicit_path(name, method):
    implicit, explicit, parameters = implicit_and_explicit(name, method, order=2)
    weight = torch.linspace(-1, 2, len(implicit), **FLOAT64)
    found = [derivatives((weight * z.square()).sum(), parameters) for z in (implicit, explicit)]
    for ours, true in zip(*found):
        torch.testing.assert_close(ours, true, rtol=1e-10, atol=1e-9)


def derivatives(loss, parameters):
    first = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
    found = []
    for g in first:
        if g is not None:
            second = torch.autograd.grad(g, parameters, retain_graph=True, allow_unused=True)
            found += [g.detach(), *(torch.zeros_like(g) if h is None else h for h in second)]
    return found


@ALL
@BOTH
def test_order_one_gives_the_same_first_derivatives(name, method):
    once, explicit, parameters = implicit_and_explicit(name, method, order=1)
    ours, true = (torch.autograd.grad(z.sin().sum(), parameters, allow_unused=True) for z in (once, explicit))
    for a, b in zip(ours, true):
        if b is not None:
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


# Right, or it raises.

WAYS = {"reverse": func.jacrev, "forward": func.jacfwd}


def moved(order, method="cdf"):
    """A sample as a function of one number that moves both parameters."""
    value = tensor(0.3, -1.2, 4.0)

    def sample(t):
        wrapped = ImplicitReparam(td.Normal(t.sin(), (2 * t).exp(), validate_args=False), method, order)
        wrapped.sample = lambda shape=(): value
        return wrapped.rsample((3,))

    noise = (value - math.sin(0.4)) / math.exp(0.8)
    return sample, lambda t: t.sin() + (2 * t).exp() * noise


@BOTH
@pytest.mark.parametrize("ways", list(itertools.product(WAYS, WAYS)), ids="-over-".join)
def test_a_second_derivative_is_right_at_order_two_and_raises_at_order_one(method, ways):
    outer, inner = (WAYS[way] for way in ways)
    t = tensor(0.4)
    sample, explicit = moved(2, method)
    torch.testing.assert_close(
        outer(inner(sample))(t), func.jacrev(func.jacrev(explicit))(t), rtol=1e-10, atol=0
    )
    with pytest.raises(NotImplementedError, match="order=2"):
        outer(inner(moved(1, method)[0]))(t)


@pytest.mark.parametrize("ways", list(itertools.product(WAYS, WAYS, WAYS)), ids="-over-".join)
def test_a_third_derivative_raises(ways):
    sample, _ = moved(2)
    for way in ways:
        sample = WAYS[way](sample)
    with pytest.raises(NotImplementedError, match="two are all"):
        sample(tensor(0.4))


def test_plain_autograd_raises_too_where_the_loss_is_linear_in_the_samples():
    loc = tensor(0.0, grad=True)
    z = ImplicitReparam(td.Normal(loc, loc.exp())).rsample((4,))
    (slope,) = torch.autograd.grad(z.sum(), loc, create_graph=True)
    with pytest.raises(NotImplementedError, match="order=2"):
        torch.autograd.grad(slope, loc)


def test_a_loop_that_takes_no_second_derivative_is_left_alone():
    loc = tensor(0.0, grad=True)
    z = ImplicitReparam(td.Normal(loc, 1.0)).rsample((4,))
    (slope,) = torch.autograd.grad(z.square().sum(), loc, create_graph=True)
    assert torch.allclose(slope, 2 * z.sum())


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_sums_and_products_in_a_jvp_rule_are_seen_by_every_outer_transform(depth):
    def cube(x):
        return plus(times(x, times(x, x)), times(x, x))

    found, true, x = cube, lambda x: x**3 + x**2, tensor(1.7)
    for _ in range(depth):
        found, true = func.jacfwd(found), func.jacfwd(true)
    torch.testing.assert_close(found(x), true(x))


# The score alone.


def reference_rows(name, keep):
    table = references.load(name)
    return table.where(keep(table))


def score_velocities(table, make, parameter):
    values = [torch.tensor(table[name]) for name in table.parameters]
    wrapped = ImplicitReparam(make(*values), "score", validate_args=False)
    return wrapped.velocity(torch.tensor(table["value"]))[parameter].numpy(), table[f"d_{parameter}"]


@pytest.mark.parametrize(
    ("name", "make", "parameter", "keep"),
    [
        ("gamma", td.Gamma, "concentration", lambda t: t["concentration"] <= 1e3),
        ("gamma", td.Gamma, "rate", lambda t: t["concentration"] <= 1e3),
        ("student_t", td.StudentT, "scale", lambda t: (t["df"] >= 1) & (abs(t["value"]) < 1e10)),
        (
            "beta",
            td.Beta,
            "concentration1",
            lambda t: (t["concentration1"] >= 1) & (t["concentration0"] >= 1) & (t["value"] < 1 - 1e-5),
        ),
    ],
)
def test_the_score_alone_gives_velocities_to_ten_digits(name, make, parameter, keep):
    found, true = score_velocities(reference_rows(name, keep), make, parameter)
    error = abs(found - true) / abs(true)
    assert error.max() < 1e-10, error.max()
    assert len(error) > 50


def test_the_score_alone_gives_second_derivatives():
    alpha = tensor(0.3, 1.0, 7.0, grad=True)
    torch.manual_seed(0)
    exact = distributions.Gamma(
        alpha, torch.ones_like(alpha)
    )  # torch's log_prob has a second derivative right to 1e-9
    value = exact.sample((20,))
    wrapped = ImplicitReparam(exact, "score", order=2)
    wrapped.sample = lambda shape=(): value
    (first,) = torch.autograd.grad(wrapped.rsample().sum(), alpha, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), alpha)
    moving = value.clone().requires_grad_()
    v = exact.velocity(moving)["concentration"]
    (by_alpha,) = torch.autograd.grad(v.sum(), alpha, retain_graph=True)
    (by_z,) = torch.autograd.grad(v.sum(), moving)
    torch.testing.assert_close(second, by_alpha + (v.detach() * by_z).sum(0), rtol=1e-9, atol=0)


def test_a_density_that_no_cut_can_be_found_for_is_refused():
    bimodal = td.MixtureSameFamily(
        td.Categorical(torch.ones(2)), td.Normal(tensor(-5.0, 5.0), tensor(1.0, 1.0))
    )
    with pytest.raises(NumericalError, match="several modes"):
        implicit_rsample(tensor(-4.0, 6.0), log_prob=bimodal.log_prob)
    with pytest.raises(NumericalError, match=r"does not fall away|too long"):
        implicit_rsample(tensor(1.0), log_prob=lambda z: -torch.log(torch.log(z.abs() + 3)))
    with pytest.raises(NumericalError, match="next to the end"):
        implicit_rsample(
            tensor(0.5), log_prob=td.Beta(tensor(0.01), tensor(0.01)).log_prob, support=(0.0, 1.0)
        )
    with pytest.raises(NumericalError, match="NaN"):
        implicit_rsample(tensor(1.0), log_prob=lambda z: torch.where(z < 1.2, -z * z, torch.nan))


def test_a_support_that_moves_is_refused_by_the_score():
    low = tensor(0.0, grad=True)
    with pytest.raises(InvalidValueError, match="support"):
        ImplicitReparam(td.Uniform(low, tensor(1.0)), "score")
    z = ImplicitReparam(td.Uniform(low, tensor(1.0))).rsample((5,))
    (slope,) = torch.autograd.grad(z.sum(), low)
    torch.testing.assert_close(slope, (1 - z).sum().detach())


# Functions in place of a distribution.


def test_gradients_flow_to_whatever_the_functions_depend_on():
    weight = tensor(0.2, -0.4, grad=True)
    x = tensor(1.0, 3.0)

    def normal():
        return td.Normal((weight * x).sum(), weight.exp().sum())

    z = tensor(0.5, -1.0, 2.5)
    found = [
        torch.autograd.grad(implicit_rsample(z, cdf, log_prob).sum(), weight)[0]
        for cdf, log_prob in (
            (normal().cdf, normal().log_prob),
            (normal().cdf, None),
            (None, normal().log_prob),
        )
    ]
    noise = ((z - normal().loc) / normal().scale).detach()
    (true,) = torch.autograd.grad((normal().loc + normal().scale * noise).sum(), weight)
    for gradient in found:
        torch.testing.assert_close(gradient, true, rtol=1e-12, atol=0)


def test_a_density_that_underflows_is_named_and_the_wrapper_keeps_its_digits():
    normal = td.Normal(tensor(0.0, grad=True), tensor(1.0))
    with pytest.raises(NumericalError, match="underflows"):
        implicit_rsample(tensor(40.0), normal.cdf, normal.log_prob)
    for method, sign in itertools.product(("cdf", "score"), (-1, 1)):
        velocity = ImplicitReparam(normal, method).velocity(sign * tensor(8.0, 20.0, 40.0, 300.0))
        torch.testing.assert_close(
            velocity["scale"], sign * tensor(8.0, 20.0, 40.0, 300.0), rtol=1e-12, atol=0
        )
        torch.testing.assert_close(velocity["loc"], torch.ones(4, **FLOAT64), rtol=1e-12, atol=0)


# The habits of torch.distributions.


def test_independent_distributions_move_each_number_by_itself():
    loc = torch.zeros(3, 2, **FLOAT64, requires_grad=True)
    wrapped = ImplicitReparam(td.Independent(td.Normal(loc, torch.ones_like(loc)), 1))
    assert (wrapped.batch_shape, wrapped.event_shape) == ((3,), (2,))
    z = wrapped.rsample((4,))
    z.sum().backward()
    torch.testing.assert_close(loc.grad, torch.full_like(loc, 4.0))
    assert wrapped.log_prob(z).shape == (4, 3)
    assert {key: v.shape for key, v in wrapped.velocity(z).items()} == {"loc": (4, 3, 2), "scale": (4, 3, 2)}


def test_it_passes_on_what_the_distribution_knows_and_expands_and_pickles():
    base = td.Laplace(tensor(0.0, 1.0), tensor(1.0, 2.0))
    wrapped = pickle.loads(pickle.dumps(ImplicitReparam(base, order=2))).expand((3, 2))
    assert wrapped.order == 2
    assert wrapped.batch_shape == (3, 2)
    for name in ("mean", "variance", "mode"):
        torch.testing.assert_close(getattr(wrapped, name), getattr(base, name).expand(3, 2))
    torch.testing.assert_close(wrapped.entropy(), base.entropy().expand(3, 2))
    z = wrapped.sample((2,))
    torch.testing.assert_close(wrapped.icdf(wrapped.cdf(z)), z)
    assert not z.requires_grad
    assert wrapped.support is base.support
    assert wrapped.has_rsample


def test_float32_is_computed_in_float64():
    loc = torch.tensor(0.5, requires_grad=True)
    wrapped = ImplicitReparam(td.Normal(loc, torch.tensor(2.0)))
    value = torch.tensor([-60.0, 0.5, 3.0, 70.0])
    velocity = wrapped.velocity(value)
    assert velocity["scale"].dtype == torch.float32
    torch.testing.assert_close(velocity["scale"], ((value - 0.5) / 2), rtol=2e-7, atol=0)
    assert wrapped.rsample((2,)).dtype == torch.float32


def test_it_maps_and_differentiates_under_torch_func():
    def loss(loc):
        return (
            ImplicitReparam(td.Normal(loc, loc.exp(), validate_args=False), validate_args=False)
            .rsample((6,))
            .sum()
        )

    loc = tensor(0.1, -0.5, 1.0)
    slopes = func.vmap(func.grad(loss), randomness="different")(loc)
    assert slopes.shape == loc.shape
    assert bool(slopes.isfinite().all())
    with pytest.raises(NotImplementedError, match=r"torch\.vmap"):
        func.vmap(
            lambda a: ImplicitReparam(td.Normal(a, 1.0, validate_args=False), "score").rsample(),
            randomness="different",
        )(loc)


@pytest.mark.parametrize(
    ("make", "error", "word"),
    [
        (lambda: ImplicitReparam(td.Poisson(tensor(3.0))), InvalidTypeError, "discrete"),
        (
            lambda: ImplicitReparam(td.MultivariateNormal(torch.zeros(2), torch.eye(2))),
            InvalidTypeError,
            "factorise",
        ),
        (lambda: ImplicitReparam(td.Normal(0.0, 1.0), "quantile"), InvalidValueError, "quantile"),
        (lambda: ImplicitReparam(td.Normal(0.0, 1.0), order=3), InvalidValueError, "order=3"),
        (lambda: ImplicitReparam(torch.zeros(2)), InvalidTypeError, "Tensor"),
        (lambda: implicit_rsample(tensor(0.0)), InvalidValueError, "neither"),
    ],
)
def test_what_cannot_work_is_refused(make, error, word):
    with pytest.raises(error, match=word):
        make()


def test_a_distribution_without_a_cdf_is_sent_to_the_score():
    with pytest.raises(NotImplementedError, match="score"):
        ImplicitReparam(td.StudentT(tensor(3.0))).rsample()


def test_velocity_checks_the_value_and_needs_names():
    with pytest.raises(ValueError, match="support"):
        ImplicitReparam(td.Gamma(tensor(1.0), tensor(1.0)), "score").velocity(tensor(-1.0))
    logistic = td.TransformedDistribution(
        td.Uniform(tensor(0.0), tensor(1.0)),
        [td.SigmoidTransform().inv, td.AffineTransform(tensor(1.0), tensor(2.0))],
    )
    with pytest.raises(InvalidTypeError, match="by name"):
        ImplicitReparam(logistic).velocity(tensor(0.0))
