import math

import pytest
import torch

from fingerpost.credit import (
    Backprop,
    DirectFeedbackAlignment,
    DisplacementCredit,
    ErrorCredit,
    FeedbackAlignment,
    ForwardGradient,
    automatic_beta,
    free_phase,
    local_gradients,
)
from fingerpost.errors import InvalidValueError, ShapeError

from credit.chains import distance, jacobians, mixed, mlp, true_gradients  # isort: skip

CREDITS = [
    Backprop(),
    ErrorCredit(),
    DisplacementCredit(),
    FeedbackAlignment(seed=3),
    DirectFeedbackAlignment(seed=3),
    ForwardGradient(tangents=2, generator=torch.Generator().manual_seed(0)),
]


@pytest.mark.parametrize("credit", CREDITS, ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("make", [mlp, mixed])
def test_every_credit_has_one_detached_layer_per_state(credit, make):
    chain, x, y = make()
    out = credit(chain, x, y)
    states = free_phase(chain, x).states[1:]
    assert [a.shape for a in out.layers] == [h.shape for h in states]
    assert not any(a.requires_grad for a in out.layers)
    assert len(out.residuals) == chain.num_blocks
    assert all(p.grad is None for p in chain.parameters())


@pytest.mark.parametrize("credit", CREDITS, ids=lambda c: type(c).__name__)
def test_every_credit_gives_every_parameter_a_gradient(credit):
    chain, x, y = mixed()
    local_gradients(chain, x, y, credit(chain, x, y))
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in chain.parameters())


@pytest.mark.parametrize("make", [mlp, mixed])
def test_backprop_is_autograd(make):
    chain, x, y = make()
    assert distance(Backprop()(chain, x, y).layers, true_gradients(chain, x, y)) < 1e-14


@pytest.mark.parametrize("make", [mlp, mixed, lambda: mlp(in_features=9), lambda: mlp(loss="mse")])
def test_local_gradients_of_backprop_are_autograds_of_the_mean_loss(make):
    chain, x, y = make()
    chain.loss(chain(x), y).mean().backward()
    expected = [p.grad.clone() for p in chain.parameters()]
    local_gradients(chain, x, y, Backprop()(chain, x, y))
    assert distance([p.grad for p in chain.parameters()], expected) < 1e-14


def test_layered_loss_has_the_total_gradient_at_its_point():
    chain, x, y = mixed()
    loss = chain.layered_loss(x, y)
    point = [h.clone().requires_grad_() for h in loss.point]
    values = loss(point)
    assert torch.allclose(values, chain.loss(chain(x), y), rtol=1e-14)
    assert distance(torch.autograd.grad(values.sum(), point), true_gradients(chain, x, y)) < 1e-14
    assert torch.equal(loss.inputs, chain.stem(x))
    assert torch.allclose(loss.head(loss.point[-1]), values)
    with pytest.raises(ShapeError, match="one per block"):
        loss(point[:1])


@pytest.mark.parametrize(
    ("centered", "richardson", "order"),
    [(False, 0, 1), (True, 0, 2), (False, 1, 2), (True, 1, 4), (False, 2, 3)],
)
def test_error_credit_tends_to_the_gradient_with_its_order_in_beta(centered, richardson, order):
    chain, x, y = mlp(depth=3)
    exact = true_gradients(chain, x, y)
    betas = (0.2, 0.1, 0.05)
    errors = []
    for beta in betas:
        credit = ErrorCredit(beta, centered=centered, richardson=richardson, steps=60)
        assert credit.order == order
        errors.append(distance(credit(chain, x, y).layers, exact))
    slope = math.log(errors[1] / errors[2]) / math.log(2)
    assert slope == pytest.approx(order, abs=0.3)


def test_displacement_tends_to_the_gramian_times_the_gradient():
    chain, x, y = mlp(depth=4)
    gradients, blocks = true_gradients(chain, x, y), jacobians(chain, x)
    expected = []
    for l in range(4):
        carry, total = torch.eye(6, dtype=torch.float64).expand(5, 6, 6), 0
        for k in range(l, -1, -1):
            total = total + carry @ carry.transpose(1, 2)
            carry = carry @ blocks[k]
        expected.append((total @ gradients[l][..., None])[..., 0])
    errors = []
    for beta in (1e-3, 1e-4):
        got = DisplacementCredit(beta, solver="error", steps=30)(chain, x, y).layers
        errors.append(distance(got, expected))
        assert distance(got[1:], gradients[1:]) > 0.3
        assert distance(got[:1], gradients[:1]) < 10 * beta
    assert errors[0] < 1e-2
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.2)


def test_sign_minus_one_is_the_bug_to_the_bit():
    chain, x, y = mlp()
    right, wrong = DisplacementCredit()(chain, x, y), DisplacementCredit(sign=-1)(chain, x, y)
    assert all(torch.equal(a, -b) for a, b in zip(right.layers, wrong.layers))
    inner = sum(float((a * g).sum()) for a, g in zip(wrong.layers, true_gradients(chain, x, y)))
    assert inner < 0


def relative_scale_and_cosine(depth):
    chain, x, y = mlp(depth=depth, width=32, batch=32, classes=5)
    a, g = DisplacementCredit()(chain, x, y).layers[0], true_gradients(chain, x, y)[0]
    cosine = (a * g).sum(1) / (a.norm(dim=1) * g.norm(dim=1))
    return float(a.norm() / g.norm()), float(cosine.mean())


@pytest.mark.parametrize(("depth", "scale"), [(2, 0.4), (4, 0.06), (8, 1e-4), (16, 1e-13)])
def test_twenty_steps_of_descent_lose_the_scale_but_not_the_cosine(depth, scale):
    found, cosine = relative_scale_and_cosine(depth)
    assert 0.4 < found / scale < 2.5
    assert cosine > 0.95


def test_automatic_beta_is_near_the_best_on_a_grid():
    chain, x, y = mlp(depth=4, width=16, batch=16)
    reference = [g.float() for g in true_gradients(chain, x, y)]
    chain, x = chain.float(), x.float()
    for centered in (False, True):

        def error(beta, centered=centered):
            credit = ErrorCredit(beta, centered=centered, steps=12)
            return distance(credit(chain, x, y).layers, reference)

        best = min(error(10.0**-k) for k in (0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4))
        assert error("auto") < 4 * best


def test_automatic_beta_shrinks_with_precision_and_order_one_below_two():
    chain, x, y = mlp(depth=4)
    double = automatic_beta(chain, free_phase(chain, x), y)
    centered = automatic_beta(chain, free_phase(chain, x), y, order=2)
    chain, x = chain.float(), x.float()
    single = automatic_beta(chain, free_phase(chain, x), y)
    assert double < single / 100
    assert double < centered
    with pytest.raises(InvalidValueError, match="order"):
        automatic_beta(chain, free_phase(chain, x), y, order=3)


@pytest.mark.parametrize("credit", [FeedbackAlignment, DirectFeedbackAlignment])
def test_feedback_depends_on_the_seed_alone(credit):
    chain, x, y = mixed()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = credit(seed=5)(chain, x, y).layers
    from fingerpost.credit.signals.feedback import feedback_matrices

    feedback_matrices.cache_clear()
    torch.rand(3)
    again, other = credit(seed=5)(chain, x, y).layers, credit(seed=6)(chain, x, y).layers
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    assert distance(first, other) > 0.1
    torch.set_rng_state(state)
    credit(seed=5)(chain, x, y)
    assert torch.equal(state, torch.get_rng_state())


def test_feedback_alignment_with_the_true_weights_is_backprop(monkeypatch):
    from fingerpost.credit.signals import feedback

    chain, x, y = mixed()
    weights = [p for part in (chain.blocks, chain.readout) for p in part.parameters() if p.ndim > 1]
    monkeypatch.setattr(
        feedback, "feedback_matrices", lambda seed, shapes: tuple(w.detach() for w in weights)
    )
    assert distance(FeedbackAlignment()(chain, x, y).layers, true_gradients(chain, x, y)) < 1e-14


def test_direct_feedback_with_transported_jacobians_is_backprop_for_a_linear_chain(monkeypatch):
    from fingerpost.credit.signals import direct_feedback

    chain, x, y = mlp(depth=1)
    monkeypatch.setattr(
        direct_feedback, "feedback_matrices", lambda seed, shapes: (chain.readout.weight.detach(),)
    )
    assert distance(DirectFeedbackAlignment()(chain, x, y).layers, true_gradients(chain, x, y)) < 1e-14


def test_forward_gradient_is_unbiased():
    chain, x, y = mlp(depth=2, width=3, batch=2)
    credit = ForwardGradient(tangents=4000, generator=torch.Generator().manual_seed(0))
    exact = true_gradients(chain, x, y)
    error = distance(credit(chain, x, y).layers, exact)
    assert error < 5 * math.sqrt((2 * 3 + 1) / 4000)


def test_forward_gradient_is_a_directional_derivative_along_its_tangent():
    chain, x, y = mixed()
    layers = ForwardGradient(generator=torch.Generator().manual_seed(4))(chain, x, y).layers
    draw = torch.Generator().manual_seed(4)
    tangents = [torch.randn(a.shape, generator=draw, dtype=a.dtype) for a in layers]
    slope = sum((g * v).sum(1) for g, v in zip(true_gradients(chain, x, y), tangents))
    assert distance(layers, [slope[:, None] * v for v in tangents]) < 1e-13


@pytest.mark.parametrize(
    "make",
    [
        lambda: ErrorCredit(richardson=-1),
        lambda: DisplacementCredit(sign=0),
        lambda: ForwardGradient(tangents=0),
    ],
)
def test_bad_fields_are_refused(make):
    with pytest.raises(InvalidValueError):
        make()


def test_credits_of_the_wrong_shape_name_the_block():
    chain, x, y = mlp()
    layers = Backprop()(chain, x, y).layers
    with pytest.raises(ShapeError, match="block 2"):
        local_gradients(chain, x, y, [layers[0], layers[1][:, :2], layers[2]])
    with pytest.raises(ShapeError, match="2 layers; the chain has 3 blocks"):
        local_gradients(chain, x, y, layers[:2])


def test_frozen_parameters_are_left_alone():
    chain, x, y = mixed()
    chain.stem.requires_grad_(False)
    local_gradients(chain, x, y, Backprop()(chain, x, y))
    assert chain.stem.weight.grad is None
    assert chain.readout.weight.grad is not None
