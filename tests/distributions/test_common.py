"""What every distribution promises, over the table of cases."""

from __future__ import annotations

import itertools
import math
import pickle

import pytest
import torch
from torch.distributions import kl_divergence

from distributions.cases import CASES, Case
from distributions.integration import ends, expectation

ALL = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
ON_THE_LINE = pytest.mark.parametrize(
    "case", [case for case in CASES if case.univariate], ids=lambda case: case.name
)


def draws(case: Case, count: int = 64, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return case.make(dtype).sample(torch.Size((count,)))


@ALL
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_have_the_shape_and_dtype_of_torch_and_lie_in_the_support(case, dtype):
    distribution = case.make(dtype)
    for draw in (distribution.sample, distribution.rsample):
        value = draw(torch.Size((4, 5)))
        assert value.shape == (4, 5, *distribution.batch_shape, *distribution.event_shape)
        assert value.dtype == dtype
        assert bool(torch.isfinite(value).all())
        assert bool(distribution.support.check(value).all())
    assert distribution.rsample().shape == distribution.batch_shape + distribution.event_shape


@ALL
def test_sample_never_carries_a_gradient_and_rsample_does(case):
    distribution = case.of(case.tensors())
    assert distribution.has_rsample
    assert not distribution.sample(torch.Size((3,))).requires_grad
    assert distribution.rsample(torch.Size((3,))).requires_grad


@ALL
def test_sample_and_rsample_draw_the_same_numbers_from_the_same_seed(case):
    torch.manual_seed(3)
    first = case.make().sample(torch.Size((7,)))
    torch.manual_seed(3)
    assert torch.equal(first, case.make().rsample(torch.Size((7,))))


@ON_THE_LINE
def test_the_gradient_of_rsample_is_the_velocity(case):
    parameters = case.tensors()
    value = case.of(parameters).rsample(torch.Size((50,)))
    weight = torch.linspace(-1, 2, 50, dtype=torch.float64)[:, None]
    found = torch.autograd.grad((weight * value).sum(), list(parameters.values()))
    velocity = case.make().velocity(value.detach())
    for (name, parameter), gradient in zip(parameters.items(), found):
        expected = (weight * velocity[name]).sum_to_size(parameter.shape)
        torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-13)


@ON_THE_LINE
def test_velocity_obeys_the_continuity_equation(case):
    """∂v/∂z = −∂_θ log p − v ∂_z log p holds for each parameter, whatever the formula for v."""
    parameters = case.tensors()
    value = draws(case).requires_grad_()
    distribution = case.of(parameters)
    full = {key: x.expand(value.shape).clone() for key, x in parameters.items()}
    log_prob = case.of(full).log_prob(value)
    slope, *scores = torch.autograd.grad(log_prob.sum(), [value, *full.values()], allow_unused=True)
    for (name, v), score in zip(distribution.velocity(value).items(), scores):
        (found,) = torch.autograd.grad(v.sum(), value, retain_graph=True)
        expected = -(0 if score is None else score) - v.detach() * slope
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


@ON_THE_LINE
def test_mean_velocity_is_the_derivative_of_the_mean(case):
    parameters = case.tensors()
    mean = case.of(parameters).mean
    if case.name == "VonMises":
        pytest.skip("its mean is a direction")
    known = torch.isfinite(mean)
    wanted = torch.autograd.grad(
        mean[known].sum(), list(parameters.values()), allow_unused=True, materialize_grads=True
    )
    plain = case.make()
    for (name, parameter), gradient in zip(parameters.items(), wanted):
        found = expectation(plain, lambda z, n=name: plain.velocity(z)[n])
        found = (found * known).sum_to_size(parameter.shape)
        torch.testing.assert_close(found, gradient, rtol=1e-6, atol=1e-7, msg=lambda m, n=name: f"{n}: {m}")


@ON_THE_LINE
def test_second_derivatives_of_samples_are_symmetric(case):
    """∂²z/∂θ_i∂θ_j, taken in either order, is one number: no other than the right velocities give that."""
    parameters = case.tensors()
    full = {key: x.detach().expand(64, 3).clone().requires_grad_() for key, x in parameters.items()}
    torch.manual_seed(0)
    value = case.of(full).rsample()
    first = torch.autograd.grad(value.sum(), list(full.values()), create_graph=True)
    second = [
        torch.autograd.grad(g.sum(), list(full.values()), retain_graph=True, materialize_grads=True)
        for g in first
        if g.requires_grad
    ]
    assert len(second) == len(first) or case.name == "VonMises"  # its loc moves samples at speed 1
    for i, j in itertools.combinations(range(len(second)), 2):
        torch.testing.assert_close(second[i][j], second[j][i], rtol=1e-7, atol=1e-8)


@ON_THE_LINE
def test_third_derivatives_raise(case):
    parameters = case.tensors()
    value = case.of(parameters).rsample(torch.Size((5,)))
    tensors = list(parameters.values())
    first = torch.autograd.grad(value.sum(), tensors, create_graph=True)
    second = torch.autograd.grad(
        sum(g.square().sum() for g in first), tensors, create_graph=True, allow_unused=True
    )
    with pytest.raises(NotImplementedError, match="derivative"):
        torch.autograd.grad(
            sum(s.square().sum() for s in second if s is not None), tensors, allow_unused=True
        )


@ON_THE_LINE
def test_transforms_of_torch_func_agree_with_autograd(case):
    parameters = {key: x.detach() for key, x in case.tensors().items()}

    def loss(given):
        torch.manual_seed(5)
        return case.of(given, validate_args=False).rsample(torch.Size((6,))).square().sum()

    leaves = case.tensors()
    plain = torch.autograd.grad(loss(leaves), list(leaves.values()))
    reverse = torch.func.grad(loss)(parameters)
    tangents = {key: torch.full_like(x, 0.5) for key, x in parameters.items()}
    _, forward = torch.func.jvp(loss, (parameters,), (tangents,))
    for gradient, key in zip(plain, parameters):
        torch.testing.assert_close(reverse[key], gradient, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(forward, 0.5 * sum(g.sum() for g in plain), rtol=1e-10, atol=1e-12)


@ON_THE_LINE
def test_vmap_maps_parameters_and_gives_each_its_own_draw(case):
    parameters = {key: x.detach().expand(3) for key, x in case.tensors().items()}
    names = list(parameters)

    def one(*given):
        value = case.of(dict(zip(names, given)), validate_args=False).rsample(torch.Size((200,)))
        return value

    def gradient(*given):
        return torch.func.grad(lambda *g: one(*g).sum(), argnums=tuple(range(len(names))))(*given)

    stacked = torch.func.vmap(one, randomness="different")(*parameters.values())
    assert stacked.shape == (3, 200)
    assert len(torch.unique(stacked[:, 0])) == 3
    found = torch.func.vmap(gradient, randomness="different")(*parameters.values())
    assert all(g.shape == (3,) and bool(torch.isfinite(g).all()) for g in found)
    with pytest.raises(RuntimeError, match="random"):
        torch.func.vmap(one)(*parameters.values())


@ON_THE_LINE
def test_velocity_passes_gradcheck_backwards_and_forwards(case):
    leaves = {key: x.detach().expand(4, 3).clone().requires_grad_() for key, x in case.tensors().items()}
    value = draws(case, 4).requires_grad_()

    def velocity(z, *given):
        found = case.of(dict(zip(leaves, given)), validate_args=False).velocity(z)
        return tuple(v for v in found.values() if v.requires_grad) or (z * 1,)

    assert torch.autograd.gradcheck(
        velocity, (value, *leaves.values()), check_forward_ad=False, rtol=1e-4, atol=1e-6
    )


@ALL
def test_log_prob_passes_gradcheck_twice(case):
    leaves = {key: x.detach().clone().requires_grad_() for key, x in case.tensors().items()}
    value = draws(case, 3).requires_grad_(case.univariate)

    def log_prob(z, *given):
        return case.of(dict(zip(leaves, given)), validate_args=False).log_prob(z)

    assert torch.autograd.gradcheck(log_prob, (value, *leaves.values()), rtol=1e-4)
    assert torch.autograd.gradgradcheck(log_prob, (value, *leaves.values()), rtol=1e-3, atol=1e-4)


@ON_THE_LINE
def test_density_integrates_to_one(case):
    distribution = case.make()
    torch.testing.assert_close(
        expectation(distribution, torch.ones_like),
        torch.ones(3, dtype=torch.float64), rtol=1e-6, atol=0,
    )  # fmt: skip


@ON_THE_LINE
def test_moments_and_entropy_are_those_of_the_density(case):
    distribution = case.make()
    if case.name != "VonMises":
        mean, variance = distribution.mean, distribution.variance
        known = torch.isfinite(mean) & torch.isfinite(variance)
        assert bool(known.any())
        found = expectation(distribution, lambda z: z)
        torch.testing.assert_close(found[known], mean[known], rtol=1e-6, atol=1e-8)
        spread = expectation(distribution, lambda z: (z - mean).square())
        torch.testing.assert_close(spread[known], variance[known], rtol=1e-5, atol=1e-8)
    try:
        entropy = distribution.entropy()
    except NotImplementedError:
        assert case.name == "MixtureSameFamily"  # no closed form, as in torch
        return
    found = expectation(distribution, lambda z: -distribution.log_prob(z))
    torch.testing.assert_close(found, entropy, rtol=1e-6, atol=1e-7)


@ON_THE_LINE
def test_samples_follow_the_density(case):
    """Kolmogorov–Smirnov at a level of 1e-4, the distribution function by quadrature of the density."""
    count = 4000
    distribution = case.make()
    value = draws(case, count, seed=11).sort(0).values
    for index in range(3):
        low, high = ends(distribution, index)
        uniform = _ranks(distribution, value[:, index], index, low, high)
        grid = torch.arange(count, dtype=torch.float64) / count
        gap = torch.maximum((uniform - grid).abs(), (uniform - grid - 1 / count).abs()).max()
        assert float(gap) < math.sqrt(-math.log(1e-4 / 2) / 2 / count)


def _ranks(distribution, value, index, low, high):
    """F at sorted points: the density integrated between neighbours, by Gauss–Legendre on a fine partition."""
    from distributions.integration import NODES, WEIGHTS, panels

    edges = torch.unique(torch.cat([panels(distribution, index), value]).clamp(low, high))
    half = (edges[1:] - edges[:-1]) / 2
    points = ((edges[1:] + edges[:-1]) / 2)[:, None] + half[:, None] * NODES
    column = points.reshape(-1, 1).expand(-1, 3)
    mass = distribution.log_prob(column)[:, index].exp().reshape(points.shape)
    total = torch.cat([torch.zeros(1, dtype=torch.float64), (half * (mass.nan_to_num() @ WEIGHTS)).cumsum(0)])
    return total[torch.searchsorted(edges, value.clamp(low, high))]


@ON_THE_LINE
def test_cdf_is_the_integral_of_the_density_where_there_is_one(case):
    distribution = case.make()
    value = draws(case, 40, seed=2).sort(0).values
    try:
        found = distribution.cdf(value)
    except NotImplementedError:
        pytest.skip("it has no distribution function in closed form")
    for index in range(3):
        expected = _ranks(distribution, value[:, index], index, *ends(distribution, index))
        torch.testing.assert_close(found[:, index], expected, rtol=1e-6, atol=1e-7)


@ALL
def test_expand_keeps_the_law_and_the_gradient(case):
    parameters = case.tensors()
    small = case.of(parameters)
    large = small.expand(torch.Size((2, 3)))
    assert type(large) is type(small)
    assert large.batch_shape == (2, 3)
    assert large.event_shape == small.event_shape
    value = draws(case, 2)
    torch.testing.assert_close(large.log_prob(value), small.log_prob(value))
    gradient = torch.autograd.grad(
        large.rsample(torch.Size((4,))).sum(), list(parameters.values()), allow_unused=True
    )
    assert all(g is None or g.shape == x.shape for g, x in zip(gradient, parameters.values()))


@ALL
def test_a_pickled_distribution_draws_the_same_numbers(case):
    distribution = case.make()
    again = pickle.loads(pickle.dumps(distribution))
    torch.manual_seed(0)
    first = distribution.rsample(torch.Size((3,)))
    torch.manual_seed(0)
    assert torch.equal(first, again.rsample(torch.Size((3,))))


@ALL
def test_not_a_number_is_refused_by_validate_args(case):
    parameters = {key: x.detach() for key, x in case.tensors().items()}
    for name in parameters:
        broken = {**parameters, name: torch.full_like(parameters[name], math.nan)}
        with pytest.raises(ValueError, match=name):
            case.of(broken, validate_args=True)


@ALL
def test_a_value_that_is_not_a_number_is_refused(case):
    value = torch.full_like(draws(case, 2), math.nan)
    with pytest.raises(ValueError, match="support"):
        case.make(validate_args=True).log_prob(value)


@ON_THE_LINE
def test_an_empty_batch_gives_empty_samples_and_zero_gradients(case):
    parameters = {key: x.detach().expand(3)[:0].clone().requires_grad_() for key, x in case.tensors().items()}
    distribution = case.of(parameters)
    value = distribution.rsample(torch.Size((4,)))
    assert value.shape == (4, 0)
    value.sum().backward()
    assert all(x.grad is not None and x.grad.shape == (0,) for x in parameters.values())
    assert distribution.log_prob(value).shape == (4, 0)


@ON_THE_LINE
def test_float32_velocities_are_those_of_float64_rounded(case):
    value = draws(case, 256, torch.float32)
    single = case.make(torch.float32)
    double = case.of({key: x.detach().double() for key, x in case.tensors(torch.float32).items()})
    for name, found in single.velocity(value).items():
        assert found.dtype == torch.float32
        torch.testing.assert_close(
            found.double(), double.velocity(value.double())[name], rtol=2e-7, atol=1e-30
        )


@ON_THE_LINE
def test_kl_to_itself_is_zero_and_to_another_is_the_integral(case):
    first = case.make()
    nudged = {key: x.detach() for key, x in case.tensors().items()}
    last = list(nudged)[-1] if case.name != "TruncatedNormal" else "scale"
    nudged[last] = nudged[last] * 1.2
    second = case.of(nudged)
    try:
        itself, other = kl_divergence(first, first), kl_divergence(first, second)
    except NotImplementedError:
        assert case.name == "MixtureSameFamily"
        return
    torch.testing.assert_close(itself, torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-9)
    expected = expectation(first, lambda z: first.log_prob(z) - second.log_prob(z))
    torch.testing.assert_close(other, expected, rtol=1e-5, atol=1e-8)


@ON_THE_LINE
def test_hessians_by_every_pair_of_modes_agree_and_leave_no_graph_behind(case):
    """Forward over forward is where torch drops a derivative without a word; see `_tracked`."""
    parameters = {key: x.detach() for key, x in case.tensors().items()}
    name = list(parameters)[-1]
    options = {"order": 2} if case.name == "MixtureSameFamily" else {}

    def loss(x):
        torch.manual_seed(5)
        distribution = case.of({**parameters, name: x}, validate_args=False, **options)
        return distribution.rsample((4,)).square().sum() + distribution.log_prob(value).sum()

    value = draws(case, 2)
    point = parameters[name]
    forward = lambda f: torch.func.jacfwd(f, randomness="same")  # noqa: E731
    found = [
        forward(forward(loss))(point),
        forward(torch.func.jacrev(loss))(point),
        torch.func.jacrev(torch.func.jacrev(loss))(point),
    ]
    plain = torch.autograd.functional.hessian(loss, point)
    for hessian in found:
        assert not hessian.requires_grad
        torch.testing.assert_close(hessian, plain, rtol=1e-9, atol=1e-9)


@ON_THE_LINE
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_everything_stays_on_a_cuda_device_and_agrees_with_the_processor(case, dtype):
    host = {key: x.detach().to(dtype) for key, x in case.tensors().items()}
    leaves = {key: x.cuda().requires_grad_() for key, x in host.items()}
    distribution = case.of(leaves)
    value = distribution.rsample(torch.Size((50,)))
    assert value.is_cuda
    gradients = torch.autograd.grad(value.sum(), list(leaves.values()))
    assert all(g.is_cuda and bool(torch.isfinite(g).all()) for g in gradients)
    plain = case.of(host)
    torch.testing.assert_close(distribution.log_prob(value).cpu(), plain.log_prob(value.cpu()))
    for name, found in distribution.velocity(value).items():
        torch.testing.assert_close(found.cpu(), plain.velocity(value.detach().cpu())[name])
