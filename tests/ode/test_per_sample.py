import math
from typing import Any

import pytest
import torch
from torch import nn

from fingerpost.errors import InvalidTypeError, InvalidValueError, NumericalError, ShapeError
from fingerpost.ode import PIDController, solve
from fingerpost.ode._per_sample import _Rows

TIGHT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-11}
METHODS = ["bosh3", "dopri5", "tsit5"]


def number(x):
    return torch.tensor(x, dtype=torch.float64)


class Swing(nn.Module):
    def __init__(self):
        super().__init__()
        self.rate = nn.Parameter(number([1.3, -0.2]))

    def forward(self, t, y):
        a, b = y.unbind(-1)
        return torch.stack([b, -self.rate[0] * a.sin() + self.rate[1] * b + torch.cos(t)], -1)


def start(batch=4):
    return torch.randn(batch, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("method", METHODS)
def test_samples_of_very_different_speeds_reach_their_closed_forms_in_their_own_steps(method):
    rates = number([-0.1, -1.0, -30.0, -1000.0])
    y0, times = torch.ones(4, 1).double(), [0.0, 0.3, 1.0]
    solution = solve(
        lambda t, y: rates[:, None] * y, y0, times, method=method, per_sample=True, rtol=1e-6, atol=1e-8
    )
    exact = torch.exp(number(times)[:, None] * rates)
    assert torch.allclose(solution.ys[..., 0], exact, atol=1e-6, rtol=1e-5)
    together = solve(lambda t, y: rates[:, None] * y, y0, times, method=method, rtol=1e-6, atol=1e-8)
    assert solution.stats.accepted < 4 * together.stats.accepted


@pytest.mark.parametrize("method", METHODS)
def test_a_sample_does_not_depend_on_the_others(method):
    f, y0, times = Swing(), start(), [0.0, 0.4, 1.7, 3.0]
    y0 = y0 * number([[0.1], [1.0], [5.0], [20.0]])
    with torch.no_grad():
        together = solve(f, y0, times, method=method, per_sample=True).ys
        for b in range(4):
            alone = solve(f, y0[b : b + 1], times, method=method, per_sample=True).ys
            assert torch.allclose(alone[:, 0], together[:, b], rtol=1e-11, atol=1e-12)


def test_one_sample_takes_the_steps_of_the_ordinary_solve():
    f, y0, times = Swing(), start(1), [0.0, 0.4, 1.7, 3.0]
    with torch.no_grad():
        alone, ordinary = (solve(f, y0, times, per_sample=p) for p in (True, False))
    assert alone.stats.accepted == ordinary.stats.accepted
    assert torch.allclose(alone.ys, ordinary.ys, rtol=1e-10)
    assert alone.steps == pytest.approx(ordinary.steps)


@pytest.mark.parametrize("gradient", ["tape", "checkpoint"])
def test_times_may_differ_by_sample_in_both_directions(gradient):
    f, y0 = Swing(), start(3)
    times = number([[0.0, 1.0, 0.5], [0.7, 0.2, 0.6], [2.0, -1.0, 0.9]])
    solution = solve(f, y0, times, per_sample=True, gradient=gradient, **TIGHT)
    for b in range(3):
        alone = solve(f, y0[b], times[:, b], **TIGHT).ys
        assert torch.allclose(solution.ys[:, b], alone, atol=1e-8)


@pytest.mark.parametrize("gradient", ["tape", "checkpoint"])
def test_gradients_are_those_of_the_ordinary_solve(gradient):
    f, weights = Swing(), torch.linspace(-1, 1, 24).double().view(3, 4, 2)
    found = []
    for options in ({"gradient": "tape", **TIGHT}, {"gradient": gradient, "per_sample": True, **TIGHT}):
        y0 = start().requires_grad_()
        ys = solve(f, y0, [0.0, 0.8, 2.0], **options).ys
        found.append(torch.autograd.grad((weights * ys**2).sum(), [y0, *f.parameters()]))
    for a, b in zip(*found):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-8)


def test_checkpoint_equals_the_tape_to_rounding():
    f, found = Swing(), []
    for gradient in ("tape", "checkpoint"):
        y0 = start().requires_grad_()
        ys = solve(f, y0, [0.0, 0.8, 2.0], per_sample=True, gradient=gradient).ys
        found.append(torch.autograd.grad((ys**2).sum(), [y0, *f.parameters()]))
    for a, b in zip(*found):
        assert torch.allclose(a, b, rtol=1e-12)


def test_the_tape_can_be_differentiated_twice_and_the_checkpoint_refuses():
    f = Swing()

    def ends(y0, gradient):
        return solve(f, y0, [0.0, 0.5], per_sample=True, gradient=gradient, rtol=1e-4, atol=1e-4).ys[-1]

    (slope,) = torch.autograd.grad(ends(start(2).requires_grad_(), "tape").sum(), f.rate, create_graph=True)
    assert torch.autograd.grad(slope.sum(), f.rate)[0].isfinite().all()
    (slope,) = torch.autograd.grad(
        ends(start(2).requires_grad_(), "checkpoint").sum(), f.rate, create_graph=True
    )
    with pytest.raises(InvalidValueError, match="tape"):
        torch.autograd.grad(slope.sum(), f.rate)


def test_states_keep_their_shape_and_precision():
    y0 = torch.ones(2, 3, 4)
    ys = solve(lambda t, y: -y * t[:, None, None], y0, [0.0, 1.0], per_sample=True).ys
    assert ys.shape == (2, 2, 3, 4)
    assert ys.dtype == torch.float32
    assert torch.allclose(ys[-1], torch.full_like(y0, math.exp(-0.5)), atol=1e-5)


@pytest.mark.parametrize("name", ["I", "PI", "PID"])
def test_the_controller_of_all_samples_is_the_one_of_each(name):
    from fingerpost.ode.controllers import CONTROLLERS
    from fingerpost.ode.methods import METHODS as NAMES

    controller: PIDController = CONTROLLERS[name]
    rows: Any = _Rows(None, NAMES["dopri5"](), controller, 1e-5, 1e-7, "rms", torch.zeros(2, 1), 9, None)  # pyright: ignore[reportArgumentType]
    ratios = number([0.0, 1e-12, 0.03, 0.7, 1.0])
    for past in ([], [number(0.4)], [number(0.4), number(0.9)]):
        history = [torch.full_like(ratios, float(p)) for p in past]
        expected = [controller.factor(float(r), [float(p) for p in past], 5) for r in ratios]
        assert torch.allclose(rows._factor(ratios, history), number(expected), rtol=1e-12)
    beyond = number([1.5, 40.0, math.inf])
    assert torch.allclose(rows._rejected(beyond), number([controller.rejected(float(r), 5) for r in beyond]))


def test_a_sample_that_fails_is_named_and_leaves_the_others_alone():
    y0 = number([[0.5], [2.0]])  # ẏ = y² blows up at t = 1/y0: 2 and 0.5
    with pytest.raises(NumericalError, match="sample 1 of 2"):
        solve(lambda t, y: y**2, y0, [0.0, 0.4, 1.0], per_sample=True)
    solution = solve(lambda t, y: y**2, y0, [0.0, 0.4, 1.0], per_sample=True, on_failure="partial", **TIGHT)
    assert solution.status != "success"
    assert torch.allclose(solution.ys[:, 0, 0], number([0.5, 1 / 1.6, 1.0]))
    assert solution.ys[1, 1, 0].item() == pytest.approx(10.0)
    assert solution.ys[2, 1].isnan().all()


def test_too_few_steps_are_said():
    with pytest.raises(NumericalError, match="max_steps=3"):
        solve(Swing(), start(), [0.0, 100.0], per_sample=True, max_steps=3)


@pytest.mark.parametrize(
    ("keywords", "error", "match"),
    [
        ({"gradient": "backsolve"}, InvalidValueError, "backsolve"),
        ({"events": lambda t, y: y}, InvalidValueError, "events"),
        ({"method": "kvaerno5"}, InvalidValueError, "kvaerno5"),
        ({"method": "dop853"}, InvalidValueError, "dop853"),
        ({"step_size": 0.1}, InvalidValueError, "step_size"),
        ({"rtol": torch.ones(2)}, InvalidValueError, "rtol"),
        ({"norm": "per_leaf"}, InvalidValueError, "per_leaf"),
        ({"y0": (torch.ones(2, 2),)}, InvalidTypeError, "tuple"),
        ({"y0": torch.ones(2)}, ShapeError, r"\(2,\)"),
        ({"t": torch.zeros(3, 5)}, ShapeError, r"\(3, 5\)"),
        ({"t": [0.0, 1.0, 1.0]}, InvalidValueError, r"t\[1\] = 1.0"),
        ({"t": [0.0, math.nan]}, InvalidValueError, "finite"),
        ({"t": torch.tensor([0.0, 1.0], requires_grad=True)}, InvalidValueError, "detach"),
        ({"f": lambda t, y: y[:, :1]}, ShapeError, r"\(4, 1\)"),
    ],
)
def test_bad_arguments_are_named(keywords, error, match):
    arguments = {"f": lambda t, y: -y, "y0": start(), "t": [0.0, 1.0], **keywords}
    with pytest.raises(error, match=match):
        solve(**arguments, per_sample=True)
