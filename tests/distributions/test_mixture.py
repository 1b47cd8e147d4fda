"""Mixtures whose samples move: against references, the dense Jacobian, the inverse of the ranks, and quadrature."""

from __future__ import annotations

import itertools
import math
import pickle

import pytest
import torch
from scipy.integrate import quad
from torch import distributions as td
from torch import func
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from fingerpost import distributions
from fingerpost.distributions import MixtureSameFamily
from fingerpost.errors import InvalidTypeError, InvalidValueError
from fingerpost.experiments import references

FLOAT64 = {"dtype": torch.float64}


def tensor(*values, grad=False):
    return torch.tensor(values if len(values) > 1 else values[0], **FLOAT64, requires_grad=grad)


def normals(logits, loc, scale, events=None, **options):
    components = Normal(loc, scale, validate_args=False)
    if loc.dim() > 1 if events is None else events:
        components = Independent(components, 1, validate_args=False)
    return MixtureSameFamily(Categorical(logits=logits, validate_args=False), components, **options)


def at(mixture, value):
    """The mixture, which draws `value`."""
    mixture.sample = lambda shape=(): value
    return mixture


# One dimension, against references.


def reference(dtype):
    table = references.load("mixture_normal")
    if dtype == torch.float32:
        table = table.where(table.fits_float32)

    def stacked(*names):
        return torch.stack([torch.tensor(table[name]) for name in names], -1)

    parameters = {
        name: stacked(*(f"{name}_{k}" for k in range(3))).to(dtype).requires_grad_()
        for name in ("logits", "loc", "scale")
    }
    return table, stacked, parameters, torch.tensor(table["value"]).to(dtype)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 3e-7)])
def test_velocities_agree_with_twenty_digits(dtype, bound):
    """Errors relative to the largest velocity of a parameter's components; see docs/distributions.md for the bound."""
    _, stacked, parameters, value = reference(dtype)
    velocity = normals(**parameters, events=0).velocity(value)
    for name, found in velocity.items():
        true = stacked(*(f"d_{name}_{k}" for k in range(3)))
        error = (found.detach().double() - true).abs() / true.abs().amax(-1, keepdim=True)
        assert found.dtype == dtype
        assert float(error.max()) < bound, (name, float(error.max()))


def test_second_derivatives_agree_with_twenty_digits():
    table, _, parameters, value = reference(torch.float64)
    z = at(normals(**parameters, events=0, order=2), value).rsample()
    first = torch.autograd.grad(z.sum(), list(parameters.values()), create_graph=True)
    entries, found = [], []
    for (a, name), k in itertools.product(enumerate(parameters), range(3)):
        rows = torch.autograd.grad(first[a][:, k].sum(), list(parameters.values()), retain_graph=True)
        for (other, row), j in itertools.product(zip(parameters, rows), range(3)):
            if f"dd_{name}_{k}_{other}_{j}" in table.columns:
                entries.append(torch.tensor(table[f"dd_{name}_{k}_{other}_{j}"]))
                found.append(row[:, j])
    true, ours = torch.stack(entries, -1), torch.stack(found, -1)
    size = torch.cat([g.detach().square() for g in first], -1).amax(-1, keepdim=True)
    error = (ours - true).abs() / torch.maximum(true.abs().amax(-1, keepdim=True), size)
    assert len(entries) == 45
    assert float(error.max()) < 1e-11, float(error.max())


# Several dimensions, against the ranks themselves.


def ranks(z, logits, loc, scale):
    """F_d(z_d | z_<d) as it is written."""
    normal, wide = Normal(loc, scale, validate_args=False), z.unsqueeze(-2)
    log_prob = normal.log_prob(wide)
    before = torch.cat([torch.zeros_like(log_prob[..., :1]), log_prob[..., :-1].cumsum(-1)], -1)
    weights = (logits[..., None] + before).softmax(-2)
    return (weights * normal.cdf(wide)).sum(-2)


def inverse(u, start, *parameters):
    """The point of ranks u, by Newton's method with the dense Jacobian."""
    z = start
    for _ in range(12):
        jacobian = func.vmap(func.jacrev(lambda point: ranks(point, *parameters)))(z)
        z = z - torch.linalg.solve(jacobian, (ranks(z, *parameters) - u)[..., None])[..., 0]
    return z


def problem(dimensions, components=3, points=6, seed=1):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(components, generator=generator, **FLOAT64)
    loc = torch.randn(components, dimensions, generator=generator, **FLOAT64)
    scale = 0.7 + torch.rand(components, dimensions, generator=generator, **FLOAT64)
    parameters = (logits, loc, scale)
    pick = torch.randint(components, (points,), generator=generator)
    value = loc[pick] + scale[pick] * torch.randn(points, dimensions, generator=generator, **FLOAT64)
    directions = [torch.randn(x.shape, generator=generator, **FLOAT64) for x in parameters]
    return parameters, value, directions


def along(order, parameters, value, directions):
    """The samples as a function of one number, which moves every parameter."""
    return lambda t: at(
        normals(*(p + t * d for p, d in zip(parameters, directions)), order=order), value
    ).rsample()


@pytest.mark.parametrize("dimensions", [2, 3, 7])
def test_the_gradient_is_that_of_the_dense_jacobian(dimensions):
    parameters, value, _ = problem(dimensions)
    leaves = [p.clone().requires_grad_() for p in parameters]
    weight = torch.randn(value.shape, generator=torch.Generator().manual_seed(3), **FLOAT64)
    found = torch.autograd.grad((weight * at(normals(*leaves), value).rsample()).sum(), leaves)
    jacobian = func.vmap(func.jacrev(lambda point: ranks(point, *parameters)))(value)
    adjoint = torch.linalg.solve(jacobian.mT, weight[..., None])[..., 0]
    true = torch.autograd.grad(-(adjoint * ranks(value, *leaves)).sum(), leaves)
    for ours, dense in zip(found, true):
        torch.testing.assert_close(ours, dense, rtol=1e-10, atol=1e-11)


def differences(parameters, value, directions, step=2e-3):
    """First and second derivative of the inverse of the ranks at 0, by central differences of fourth order."""
    u = ranks(value, *parameters)
    f = {
        i: inverse(u, value, *(p + i * step * d for p, d in zip(parameters, directions)))
        for i in (-2, -1, 1, 2)
    }
    first = (8 * (f[1] - f[-1]) - (f[2] - f[-2])) / (12 * step)
    second = (16 * (f[1] + f[-1]) - (f[2] + f[-2]) - 30 * value) / (12 * step**2)
    return first, second


@pytest.mark.parametrize("dimensions", [1, 2, 4])
def test_first_derivatives_are_those_of_the_inverse_in_both_modes(dimensions):
    parameters, value, directions = problem(dimensions)
    first, _ = differences(parameters, value, directions)
    for transform, order in itertools.product((func.jacrev, func.jacfwd), (1, 2)):
        found = transform(along(order, parameters, value, directions))(tensor(0.0))
        torch.testing.assert_close(found, first, rtol=1e-6, atol=1e-7)


WAYS = {"reverse": func.jacrev, "forward": func.jacfwd}


@pytest.mark.parametrize("dimensions", [1, 2, 4])
@pytest.mark.parametrize("ways", list(itertools.product(WAYS, WAYS)), ids="-over-".join)
def test_second_derivatives_are_right_at_order_two_and_raise_at_order_one(dimensions, ways):
    parameters, value, directions = problem(dimensions)
    outer, inner = (WAYS[way] for way in ways)
    _, second = differences(parameters, value, directions)
    found = outer(inner(along(2, parameters, value, directions)))(tensor(0.0))
    torch.testing.assert_close(found, second, rtol=1e-5, atol=1e-5)
    with pytest.raises(NotImplementedError, match="order=2"):
        outer(inner(along(1, parameters, value, directions)))(tensor(0.0))


@pytest.mark.parametrize("ways", list(itertools.product(WAYS, WAYS, WAYS)), ids="-over-".join)
def test_a_third_derivative_raises(ways):
    sample = along(2, *problem(2))
    for way in ways:
        sample = WAYS[way](sample)
    with pytest.raises(NotImplementedError, match="two are all"):
        sample(tensor(0.0))


@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_velocity_is_the_jacobian_of_the_sample_and_lower_triangular(dimensions):
    parameters, value, directions = problem(dimensions)
    velocity = normals(*parameters).velocity(value)
    assert velocity["logits"].shape == (6, dimensions, 3)
    assert velocity["loc"].shape == velocity["scale"].shape == (6, dimensions, 3, dimensions)
    moved = sum((v * d).flatten(2).sum(-1) for v, d in zip(velocity.values(), directions))
    found = func.jacrev(along(1, parameters, value, directions))(tensor(0.0))
    torch.testing.assert_close(moved, found, rtol=1e-12, atol=1e-13)
    above = torch.ones(dimensions, dimensions).triu(1).bool()[:, None, :].expand(-1, 3, -1)
    assert not velocity["loc"][:, above].any()


def test_the_mean_gradient_is_that_of_the_expectation():
    """Against the gradient of Σ_k w_k E_k f for f = sin(z₁ + 2 z₂), which has a closed form."""
    (logits, loc, scale), _, _ = problem(2)
    leaves = [x.clone().requires_grad_() for x in (logits, loc, scale)]

    def expectation(logits, loc, scale):
        turn, spread = loc[:, 0] + 2 * loc[:, 1], scale[:, 0].square() + 4 * scale[:, 1].square()
        return (logits.softmax(0) * turn.sin() * (-spread / 2).exp()).sum()

    true = torch.autograd.grad(expectation(*leaves), leaves)
    torch.manual_seed(0)
    count, parts = 20_000, 20
    estimates = []
    for _ in range(parts):
        z = normals(*leaves).rsample((count,))
        estimates.append(torch.autograd.grad((z[:, 0] + 2 * z[:, 1]).sin().mean(), leaves))
    for found, exact in zip(zip(*estimates), true):
        stacked = torch.stack(found)
        error = stacked.std(0) / math.sqrt(parts)
        assert bool(((stacked.mean(0) - exact).abs() < 4.5 * error).all())


# Tails.


@pytest.mark.parametrize("side", [-1, 1])
def test_far_out_a_mixture_moves_as_its_widest_component_does(side):
    distance = tensor(8.0, 12.0, 20.0, 30.0, 38.0, 40.0, 100.0)
    mixture = normals(tensor(0.0, 0.0, 0.0), tensor(-1.0, 0.0, 1.0), tensor(0.5, 2.0, 0.8), order=2)
    value = side * 2.0 * distance
    velocity = mixture.velocity(value)
    torch.testing.assert_close(velocity["loc"][:, 1], torch.ones(7, **FLOAT64), rtol=1e-8, atol=0)
    torch.testing.assert_close(velocity["scale"][:, 1], side * distance, rtol=1e-8, atol=0)
    assert all(bool(v.isfinite().all()) for v in velocity.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_is_nan_from_eight_to_forty_deviations_in_several_dimensions(dtype):
    (logits, loc, scale), _, _ = problem(3)
    leaves = [x.to(dtype).requires_grad_() for x in (logits, loc, scale)]
    corners = torch.tensor(list(itertools.product((-40.0, -8.0, 0.0, 8.0, 40.0), repeat=3)), dtype=dtype)
    z = at(normals(*leaves, order=2), corners).rsample()
    assert torch.equal(z, corners)
    first = torch.autograd.grad(z.sum(), leaves, create_graph=True)
    second = torch.autograd.grad(first[1].sum(), leaves)
    assert all(bool(g.isfinite().all()) for g in (*first, *second))


def test_between_components_that_are_far_apart_the_velocity_is_huge_and_finite():
    mixture = normals(tensor(0.0, 0.0), tensor(-20.0, 20.0), tensor(1.0, 1.0))
    velocity = mixture.velocity(tensor(0.0))["logits"]
    true = -0.25 / math.exp(-200) * math.sqrt(2 * math.pi)  # −w₀ w₁/p with p = φ(20)
    torch.testing.assert_close(velocity, tensor(true, -true), rtol=1e-12, atol=0)
    beyond = normals(tensor(0.0, 0.0), tensor(-45.0, 45.0), tensor(1.0, 1.0)).velocity(tensor(0.0))
    assert all(bool(v.isfinite().all()) for v in beyond.values())


# Any family of components.

RATE = {"Exponential": 1, "HalfNormal": 1}
FAMILIES = {
    **{name: getattr(td, name) for name in ("Normal", "Laplace", "LogNormal", "Cauchy", "Gumbel", "Weibull")},
    **{name: getattr(td, name) for name in RATE},
    **{
        f"{name}, ours": getattr(distributions, name)
        for name in ("Gamma", "Rice", "FoldedNormal", "Beta", "StudentT")
    },
}
PARAMETERS = {"StudentT, ours": ("df", "loc", "scale")}


@pytest.mark.parametrize("name", FAMILIES)
def test_velocities_are_those_of_the_distribution_function_for_any_family(name):
    """Against −∂F/∂θ by central differences, over the density; and one gradient of rsample against their sum."""
    generator = torch.Generator().manual_seed(2)
    count = RATE.get(name, 3 if name == "StudentT, ours" else 2)
    values = [0.8 + torch.rand(3, generator=generator, **FLOAT64) for _ in range(count)]
    logits = torch.randn(3, generator=generator, **FLOAT64)
    torch.manual_seed(0)

    def make(logits, *values):
        return MixtureSameFamily(
            Categorical(logits=logits), FAMILIES[name](*values, validate_args=False), validate_args=False
        )

    parameters = [logits, *values]
    z = make(*parameters).sample((25,))
    velocity = make(*parameters).velocity(z)
    density = make(*parameters).log_prob(z).exp()
    for i, (key, v) in enumerate(velocity.items()):
        for k in range(3):
            step = torch.zeros(3, **FLOAT64)
            step[k] = 1e-5
            ends = [
                make(*(p + s * step * (j == i) for j, p in enumerate(parameters))).cdf(z) for s in (1, -1)
            ]
            true = -(ends[0] - ends[1]) / 2e-5 / density
            torch.testing.assert_close(v[:, k], true, rtol=1e-6, atol=1e-7, msg=f"{key} {k}")
    leaves = [p.clone().requires_grad_() for p in parameters]
    found = torch.autograd.grad(at(make(*leaves), z).rsample().sum(), leaves)
    for gradient, v in zip(found, velocity.values()):
        torch.testing.assert_close(gradient, v.sum(0), rtol=1e-11, atol=1e-12)


def test_components_without_names_move_too():
    """Logistic components, as torch writes them: gradients reach the transforms' own tensors."""
    loc, scale = tensor(-1.0, 2.0, grad=True), tensor(0.7, 1.3, grad=True)
    uniform = td.Uniform(torch.zeros(2, **FLOAT64), torch.ones(2, **FLOAT64))
    logistic = td.TransformedDistribution(
        uniform, [td.SigmoidTransform().inv, td.AffineTransform(loc, scale)]
    )
    mixture = MixtureSameFamily(Categorical(logits=tensor(0.0, 0.4)), logistic)
    value = tensor(-2.0, 0.0, 3.0)
    found = torch.autograd.grad(at(mixture, value).rsample().sum(), [loc, scale])
    density = mixture.log_prob(value).exp().detach()
    true = torch.autograd.grad(-(mixture.cdf(value) / density).sum(), [loc, scale])
    for ours, exact in zip(found, true):
        torch.testing.assert_close(ours, exact, rtol=1e-11, atol=0)
    with pytest.raises(InvalidTypeError, match="by name"):
        mixture.velocity(value)


def test_truncated_components_move_with_their_ends():
    low, high = tensor(-1.0, 0.0, grad=True), tensor(1.5, 3.0, grad=True)
    components = distributions.TruncatedNormal(
        tensor(0.0, 1.0), tensor(1.0, 2.0), low, high, validate_args=False
    )
    mixture = MixtureSameFamily(Categorical(logits=tensor(0.0, 0.4)), components, validate_args=False)
    value = tensor(-0.5, 0.7, 2.0)
    velocity = mixture.velocity(value)
    density = mixture.log_prob(value).exp().detach()
    (true,) = torch.autograd.grad(-(mixture.cdf(value) / density).sum(), high)
    torch.testing.assert_close(velocity["high"].sum(0), true, rtol=1e-10, atol=0)


def test_angles_pass_no_weight_across_their_cuts():
    """The mean gradient of a periodic function against quadrature on the circle."""
    leaves = (
        tensor(0.0, 1.0, -0.5, grad=True),
        tensor(3.0, -1.0, 2.0, grad=True),
        tensor(2.0, 1.0, 5.0, grad=True),
    )
    mixture = MixtureSameFamily(Categorical(logits=leaves[0]), distributions.VonMises(*leaves[1:]))
    count = 20_000
    z = (torch.arange(count, **FLOAT64) + 0.5) / count * 2 * math.pi - math.pi
    density = mixture.log_prob(z).exp()
    step = 2 * math.pi / count
    true = torch.autograd.grad((density * (z - 0.3).cos()).sum() * step, leaves)
    slope = -(z - 0.3).sin()
    for v, exact in zip(mixture.velocity(z).values(), true):
        found = ((density * slope)[:, None] * v).sum(0) * step
        torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(mixture.cdf(tensor(-math.pi, 3.1415926)), tensor(0.0, 1.0), rtol=0, atol=1e-7)


def test_components_without_a_cdf_are_named():
    mixture = MixtureSameFamily(Categorical(torch.ones(2)), td.StudentT(torch.ones(2)))
    with pytest.raises(NotImplementedError, match="StudentT has no cdf"):
        mixture.rsample()


def test_components_that_do_not_factorise_are_refused():
    tied = td.MultivariateNormal(torch.zeros(2, 3), torch.eye(3))
    with pytest.raises(InvalidTypeError, match="factorise"):
        MixtureSameFamily(Categorical(torch.ones(2)), tied).rsample()


# The habits of torch.distributions.


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("event", [(), (2,), (2, 3)])
@pytest.mark.parametrize("batch", [(), (4,), (2, 3), (0,)])
def test_shapes_dtypes_and_values_are_those_of_torch(dtype, event, batch):
    loc = torch.randn(*batch, 5, *event, dtype=dtype, requires_grad=True)
    components = Independent(Normal(loc, torch.ones_like(loc)), len(event)) if event else Normal(loc, 1.0)
    mixture = MixtureSameFamily(Categorical(torch.ones(*batch, 5, dtype=dtype)), components)
    torchs = td.MixtureSameFamily(mixture.mixture_distribution, components)
    torch.manual_seed(5)
    z = mixture.rsample((3,))
    torch.manual_seed(5)
    assert torch.equal(z, torchs.sample((3,)))
    assert z.shape == (3, *batch, *event)
    assert z.dtype == dtype
    assert z.requires_grad
    assert not mixture.sample((3,)).requires_grad
    (gradient,) = torch.autograd.grad(z.sum(), loc)
    assert bool(gradient.isfinite().all())
    if not event and batch != (0,):
        assert {key: v.shape for key, v in mixture.velocity(z).items()} == dict.fromkeys(
            ("probs", "loc", "scale"), (3, *batch, 5)
        )


def test_a_batch_gives_the_gradients_of_its_members():
    generator = torch.Generator().manual_seed(0)
    logits, loc, scale = (torch.rand(4, 3, 2, generator=generator, **FLOAT64) + 0.5 for _ in range(3))
    logits, value = logits[..., 0], torch.randn(4, 2, generator=generator, **FLOAT64)

    def gradient(logits, loc, scale, value):
        leaves = [x.clone().requires_grad_() for x in (logits, loc, scale)]
        mixture = MixtureSameFamily(Categorical(logits=leaves[0]), Independent(Normal(*leaves[1:]), 1))
        return torch.autograd.grad(at(mixture, value).rsample().sin().sum(), leaves)

    whole = gradient(logits, loc, scale, value)
    for i in range(4):
        for part, one in zip(whole, gradient(logits[i], loc[i], scale[i], value[i])):
            torch.testing.assert_close(part[i], one, rtol=1e-12, atol=1e-14)


def test_one_mixing_distribution_serves_a_batch_of_components():
    logits = torch.zeros(3, **FLOAT64, requires_grad=True)
    loc = torch.randn(4, 3, **FLOAT64)
    mixture = MixtureSameFamily(Categorical(logits=logits), Normal(loc, 1.0))
    z = mixture.rsample((7,))
    (found,) = torch.autograd.grad(z.sum(), logits)
    torch.testing.assert_close(found, mixture.velocity(z.detach())["logits"].sum((0, 1)))


def test_expand_and_pickle_keep_the_order_and_the_parameters():
    mixture = pickle.loads(
        pickle.dumps(normals(tensor(0.0, 1.0), tensor(-1.0, 1.0), tensor(1.0, 2.0), order=2))
    )
    wide = mixture.expand((2, 5))
    assert type(wide) is MixtureSameFamily
    assert wide.order == 2
    assert wide.rsample((3,)).shape == (3, 2, 5)
    torch.testing.assert_close(wide.variance, mixture.variance.expand(2, 5))
    assert isinstance(mixture, td.MixtureSameFamily)
    assert mixture.has_rsample


def test_probs_get_the_gradient_that_logits_would_pass_on():
    logits = tensor(0.3, -1.0, 0.2, grad=True)
    probs = logits.softmax(0)
    loc, value = tensor(-2.0, 0.0, 1.0), tensor(-1.5, 0.2, 2.0)
    gradients = [
        torch.autograd.grad(at(MixtureSameFamily(mixing, Normal(loc, 1.0)), value).rsample().sum(), logits)[0]
        for mixing in (Categorical(probs=probs), Categorical(logits=logits))
    ]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-14)
    assert "probs" in MixtureSameFamily(Categorical(probs=probs), Normal(loc, 1.0)).velocity(value)


def test_velocities_of_univariate_mixtures_can_be_differentiated():
    """∂v/∂z = −∂_θ log p − v ∂_z log p, an identity."""
    parameters = tensor(0.1, 0.7, grad=True), tensor(-1.0, 2.0, grad=True), tensor(0.5, 1.5, grad=True)
    z = tensor(-1.4, 0.2, 3.0, grad=True)
    full = [p.expand(3, 2).clone() for p in parameters]
    v = normals(*parameters).velocity(z)
    mixture = MixtureSameFamily(Categorical(logits=full[0]), Normal(*full[1:]))
    slope, *scores = torch.autograd.grad(mixture.log_prob(z).sum(), [z, *full])
    for found, score in zip(v.values(), scores):
        for k in range(2):
            (by_z,) = torch.autograd.grad(found[:, k].sum(), z, retain_graph=True)
            torch.testing.assert_close(
                by_z, -score[:, k] - found[:, k].detach() * slope, rtol=1e-10, atol=1e-12
            )


def test_velocities_in_several_dimensions_refuse_a_derivative():
    loc = torch.zeros(2, 3, **FLOAT64, requires_grad=True)
    v = MixtureSameFamily(Categorical(torch.ones(2)), Independent(Normal(loc, 1.0), 1)).velocity(
        torch.ones(3, **FLOAT64)
    )
    with pytest.raises(NotImplementedError, match="order=2"):
        torch.autograd.grad(v["loc"].sum(), loc)


def test_it_maps_and_differentiates_under_torch_func():
    logits, scale = torch.zeros(3, **FLOAT64), torch.ones(3, 2, **FLOAT64)

    def loss(loc):
        return normals(logits, loc, scale, validate_args=False).rsample((5,)).square().sum()

    loc = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0), **FLOAT64)
    slopes = func.vmap(func.grad(loss), randomness="different")(loc)
    assert slopes.shape == loc.shape
    assert bool(slopes.isfinite().all())


def test_validation_is_that_of_torch():
    with pytest.raises(ValueError, match="component"):
        MixtureSameFamily(Categorical(torch.ones(3)), Normal(torch.zeros(2), 1.0))
    gammas = MixtureSameFamily(Categorical(torch.ones(2)), distributions.Gamma(torch.ones(2), torch.ones(2)))
    with pytest.raises(ValueError, match="support"):
        gammas.velocity(torch.tensor(-1.0))
    with pytest.raises(InvalidValueError, match="order=3"):
        normals(tensor(0.0, 0.0), tensor(0.0, 1.0), tensor(1.0, 1.0), order=3)
    with pytest.raises(NotImplementedError, match="several dimensions"):
        normals(*problem(2)[0]).cdf(torch.zeros(2, **FLOAT64))


# Divergence.

MIXTURES = {
    "spread": ((0.0, 1.0), (-3.0, 2.0), (0.5, 1.0)),
    "needle": ((0.0, 1.0, -1.0), (-3.0, 2.0, 7.0), (0.01, 3.0, 0.2)),
    "one": ((0.0, 0.0), (0.0, 0.0), (1.0, 1.0)),
}


@pytest.mark.parametrize("pair", list(itertools.product(MIXTURES, MIXTURES)), ids="-".join)
def test_divergence_agrees_with_scipy(pair):
    p, q = (normals(*(tensor(*x) for x in MIXTURES[name])) for name in pair)

    def integrand(x):
        log_p, log_q = (float(m.log_prob(tensor(x))) for m in (p, q))
        return math.exp(log_p) * (log_p - log_q)

    marks = {m + s * c for n in pair for m, s in zip(*MIXTURES[n][1:]) for c in (-8, -3, -1, 0, 1, 3, 8)}
    low, high = (f(m + c * s for m, s in zip(*MIXTURES[pair[0]][1:])) for f, c in ((min, -12), (max, 12)))
    edges = sorted({low, high, *(m for m in marks if low < m < high)})
    true = sum(quad(integrand, a, b, epsabs=1e-14, epsrel=1e-10)[0] for a, b in itertools.pairwise(edges))
    assert float(kl_divergence(p, q)) == pytest.approx(true, rel=1e-9, abs=1e-11)


def test_divergence_of_batches_can_be_differentiated_twice():
    loc = torch.tensor([[-1.0, 1.0], [0.0, 2.0]], **FLOAT64)

    def divergence(shift):
        p = MixtureSameFamily(Categorical(logits=torch.zeros(2, 2, **FLOAT64)), Normal(loc + shift, 1.0))
        return kl_divergence(p, normals(tensor(0.0, 0.5), tensor(-1.0, 1.0), tensor(1.0, 2.0)))

    shift = tensor(0.1)
    assert divergence(shift).shape == (2,)
    slope, curvature = func.jacfwd(divergence)(shift), func.jacrev(func.jacrev(divergence))(shift)
    step = 1e-3
    ends = [divergence(shift + i * step) for i in (-1, 0, 1)]
    torch.testing.assert_close(slope, (ends[2] - ends[0]) / (2 * step), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(curvature, (ends[2] - 2 * ends[1] + ends[0]) / step**2, rtol=1e-4, atol=1e-6)


def test_divergence_of_other_components_says_what_to_do():
    gammas = MixtureSameFamily(Categorical(torch.ones(2)), distributions.Gamma(torch.ones(2), torch.ones(2)))
    with pytest.raises(NotImplementedError, match="rsample"):
        kl_divergence(gammas, gammas)
