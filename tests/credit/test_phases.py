import pytest
import torch
from torch import nn

from fingerpost.credit import (
    SOLVERS,
    GradientDescent,
    HeavyBall,
    NudgedProblem,
    ResidualBlock,
    ResidualChain,
    Status,
    free_phase,
    nudged_phase,
    residual_mlp,
)
from fingerpost.errors import InvalidTypeError, InvalidValueError, NumericalError, ShapeError

from credit.chains import distance, mixed, mlp  # isort: skip

STEPS = {"gd": 3000, "momentum": 600, "gauss_seidel": 150, "anderson": 300, "error": 60}


def test_free_states_have_no_error():
    chain, x, y = mixed()
    free = free_phase(chain, x)
    gradient = NudgedProblem(chain, free.states, y, 0.0).gradient(free.states)
    assert gradient.norm() == 0.0
    assert torch.equal(free.logits, chain(x))


@pytest.mark.parametrize("make", [mlp, mixed])
def test_energy_gradient_is_autograd_of_the_energy(make):
    chain, x, y = make()
    free = free_phase(chain, x).states
    problem = NudgedProblem(chain, free, y, 0.3)
    states = [free[0], *(h + 0.1 * torch.sin(h) for h in free[1:])]
    leaves = [h.clone().requires_grad_() for h in states[1:]]
    expected = torch.autograd.grad(problem.energy([states[0], *leaves]), leaves)
    got = problem.gradient(states)
    assert distance([e - p for e, p in zip(got.errors, got.pulls)], expected) < 1e-13


@pytest.mark.parametrize("solver", list(SOLVERS))
@pytest.mark.parametrize("make", [mlp, mixed])
@pytest.mark.parametrize("sign", [1, -1])
def test_solver_reaches_the_equilibrium_where_errors_are_pulled_from_above(solver, make, sign):
    chain, x, y = make()
    out = nudged_phase(chain, x, y, solver=solver, beta=0.1, steps=STEPS[solver], tolerance=1e-9, sign=sign)
    gradient = NudgedProblem(chain, free_phase(chain, x).states, y, sign * 0.1).gradient(out.states)
    assert distance(gradient.pulls, out.errors) < 1e-6
    assert max(out.block_residuals) < 1e-6


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_tolerance_stops_early_and_says_converged(solver):
    chain, x, y = mlp()
    out = nudged_phase(chain, x, y, solver=solver, beta=0.1, steps=5000, tolerance=1e-2)
    assert out.steps < 2000
    assert out.status is Status.CONVERGED


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_solvers_agree_on_the_states(solver):
    chain, x, y = mlp(depth=4)
    reference = nudged_phase(chain, x, y, solver="error", beta=0.2, steps=80).states[1:]
    got = nudged_phase(chain, x, y, solver=solver, beta=0.2, steps=2 * STEPS[solver], tolerance=1e-10).states[
        1:
    ]
    assert distance(got, reference) < 1e-7


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "callable"])
@pytest.mark.parametrize("sign", [1, -1])
def test_fused_descent_is_the_autograd_descent(steps, loss, sign):
    function = (lambda logits, y: logits.square().sum(1)) if loss == "callable" else loss
    chain, x, y = mlp(depth=6, loss=function)
    fused, slow = (
        nudged_phase(chain, x, y, solver=GradientDescent(fused=f), steps=steps, sign=sign)
        for f in (True, False)
    )
    assert max(float((a - b).abs().max()) for a, b in zip(fused.states, slow.states)) < 1e-12
    assert max(float((a - b).abs().max()) for a, b in zip(fused.errors, slow.errors)) < 1e-12
    assert fused.residual == pytest.approx(slow.residual, rel=1e-10)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("fused", [True, False])
def test_nudge_climbs_one_block_a_step(steps, fused):
    chain, x, y = mlp(depth=6)
    free = free_phase(chain, x).states
    states = nudged_phase(chain, x, y, solver=GradientDescent(fused=fused), steps=steps).states
    moved = [bool((a - b).abs().max() > 1e-12) for a, b in zip(states, free)]
    assert moved == [l > 6 - steps for l in range(7)]


def test_gradient_descent_slows_with_depth_and_error_coordinates_do_not():
    descent, errors = [], []
    for depth in (4, 32):
        chain, x, y = mlp(depth=depth)
        descent.append(max(nudged_phase(chain, x, y, beta=0.01, steps=100).block_residuals))
        errors.append(max(nudged_phase(chain, x, y, solver="error", beta=0.01, steps=3).block_residuals))
    assert descent[1] > 3 * descent[0]
    assert max(errors) < 1e-3


def test_first_step_of_the_error_coordinates_is_backprop():
    chain, x, y = mlp()
    from credit.chains import true_gradients

    out = nudged_phase(chain, x, y, solver="error", beta=0.3, steps=1)
    assert distance([e / -0.3 for e in out.errors], true_gradients(chain, x, y)) < 1e-13


def test_relaxation_leaves_globals_and_parameters_alone():
    chain, x, y = mlp()
    before, state = [p.clone() for p in chain.parameters()], torch.get_rng_state()
    for solver in SOLVERS:
        nudged_phase(chain, x, y, solver=solver, steps=2)
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, chain.parameters()))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    "arguments",
    [
        {"beta": 0.0},
        {"beta": -0.5},
        {"beta": float("nan")},
        {"beta": "best"},
        {"steps": 0},
        {"step_size": 0.0},
        {"tolerance": -1.0},
        {"sign": 2},
        {"solver": "newton"},
        {"solver": GradientDescent(), "step_size": 0.1},
    ],
)
def test_arguments_out_of_range_are_named(arguments):
    chain, x, y = mlp()
    name = "solver" if arguments.get("solver") == "newton" else list(arguments)[-1]
    with pytest.raises(InvalidValueError, match=name):
        nudged_phase(chain, x, y, **arguments)


@pytest.mark.parametrize("fused", [True, False])
def test_diverging_relaxation_names_block_step_and_residual(fused):
    chain, x, y = mlp()
    with pytest.raises(NumericalError, match=r"diverged at step \d+: block \d.*gradient is \d"):
        nudged_phase(chain, x, y, solver=GradientDescent(3.0, fused=fused), steps=50)


def test_throw_false_hands_back_the_status():
    chain, x, y = mlp()
    assert nudged_phase(chain, x, y, step_size=3.0, steps=50, throw=False).status is Status.DIVERGED


def test_non_finite_relaxation_is_an_error_with_its_block():
    chain, x, y = mlp(loss=lambda logits, y: logits.sum(1) * float("nan"))
    with pytest.raises(NumericalError, match=r"non-finite at step \d+: block 3"):
        nudged_phase(chain, x, y, solver=HeavyBall(), steps=5)


def test_non_finite_free_phase_names_the_block():
    chain, x, _ = mlp()
    chain.blocks[1].bias.data.fill_(float("inf"))
    chain.blocks[1].scale = float("inf")
    with pytest.raises(NumericalError, match="block 2"):
        free_phase(chain, x)


def test_width_that_the_skip_cannot_take_names_block_and_shapes():
    chain = ResidualChain([ResidualBlock(4), nn.Linear(4, 3), ResidualBlock(4)], nn.Linear(4, 2))
    with pytest.raises(ShapeError, match=r"block 3.*\(2, 3\).*\(B, 4\)"):
        free_phase(chain, torch.zeros(2, 4))


def test_foreign_shape_mismatch_names_the_block():
    chain = ResidualChain([nn.Linear(4, 3), nn.Linear(4, 4)], nn.Linear(4, 2))
    with pytest.raises(ShapeError, match=r"block 2 does not accept an input of shape \(2, 3\)"):
        chain(torch.zeros(2, 4))


def test_block_that_changes_the_batch_is_named():
    chain = ResidualChain([nn.Flatten(0)], nn.Linear(4, 2))
    with pytest.raises(ShapeError, match=r"block 1 maps .*\(2, 4\) to \(8,\); expected .*\(2, …\)"):
        chain(torch.zeros(2, 4))


def test_reduced_loss_is_refused():
    chain, x, y = mlp(loss=nn.CrossEntropyLoss())
    with pytest.raises(ShapeError, match="one loss per sample"):
        nudged_phase(chain, x, y)


def test_bad_construction_is_refused():
    with pytest.raises(InvalidValueError, match="blocks is empty"):
        ResidualChain([], nn.Linear(2, 2))
    with pytest.raises(InvalidTypeError, match="block 1"):
        ResidualChain([torch.tanh], nn.Linear(2, 2))
    with pytest.raises(InvalidValueError, match="loss"):
        ResidualChain([nn.Linear(2, 2)], nn.Linear(2, 2), loss="hinge")
    with pytest.raises(InvalidValueError, match="activation"):
        ResidualBlock(3, "softplus")
    with pytest.raises(InvalidValueError, match="num_blocks"):
        residual_mlp(3, 3, 2, 0)
    with pytest.raises(InvalidValueError, match="momentum"):
        HeavyBall(momentum=1.0)
