import math
from typing import Any

import pytest
import torch

from fingerpost.errors import InvalidTypeError, InvalidValueError, NumericalError, ShapeError
from fingerpost.ode import solve
from fingerpost.ode.events import Event

TIGHT: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-12}
GRADIENTS = ["tape", "checkpoint", "backsolve"]


def number(x):
    return torch.tensor(x, dtype=torch.float64)


def falling(gravity=9.81):
    return lambda t, y: torch.stack([y[1], -gravity * torch.ones_like(y[1])])


def height(t, y):
    return y[0]


@pytest.mark.parametrize("method", ["dopri5", "dop853", "bosh3", "kvaerno5", "rk4"])
def test_a_ball_lands_at_the_closed_form_time(method):
    options: dict[str, Any] = {"step_size": 0.3} if method == "rk4" else {}
    solution = solve(falling(), number([1.0, 2.0]), [0.0, 0.2, 10.0], method=method, events=height, **options)
    exact = (2 + math.sqrt(4 + 2 * 9.81)) / 9.81
    event = solution.event
    assert event.time.item() == pytest.approx(exact, abs=1e-10)
    assert torch.allclose(event.state, number([0.0, 2 - 9.81 * exact]), atol=1e-9)
    assert event.index == 0
    assert torch.allclose(solution.ys[1], number([1 + 0.4 - 9.81 * 0.02, 2 - 9.81 * 0.2]))
    assert solution.ys[2].isnan().all()
    assert solution.status == "success"
    assert solution.steps[-1] == pytest.approx(exact, abs=1e-10)


def test_without_graph_and_with_it_the_event_is_the_same_within_the_tolerance():
    def f(t, y):
        return torch.stack([y[1], -torch.sin(y[0])])

    found = []
    for mode in (torch.no_grad, torch.enable_grad):
        with mode():
            event = solve(f, number([1.0, 0.0]), [0.0, 10.0], events=height).event
        assert not event.time.requires_grad
        assert not event.state.requires_grad
        found.append(torch.cat([event.time[None], event.state]))
    assert torch.allclose(*found, rtol=0, atol=1e-7)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_gradients_of_a_landing_are_those_of_the_closed_form(gradient):
    y0 = number([1.0, 2.0]).requires_grad_()
    gravity, t0 = number(9.81).requires_grad_(), number(0.5).requires_grad_()
    times = torch.stack([t0, number(10.0)])

    def f(t, y):
        return torch.stack([y[1], -gravity * torch.ones_like(y[1])])

    event = solve(f, y0, times, events=height, gradient=gradient, **TIGHT).event
    exact = t0 + (y0[1] + (y0[1] ** 2 + 2 * gravity * y0[0]).sqrt()) / gravity
    speed = -((y0[1] ** 2 + 2 * gravity * y0[0]).sqrt())
    for ours, theirs in ((event.time, exact), (event.state[1], speed)):
        inputs = [y0, gravity, t0] if theirs is exact else [y0, gravity]
        got = torch.autograd.grad(ours, [y0, gravity, t0], retain_graph=True)
        for a, b in zip(got, torch.autograd.grad(theirs, inputs, retain_graph=True)):
            assert torch.allclose(a, b, rtol=1e-8)
    assert torch.autograd.grad(event.state[1], t0, retain_graph=True)[0].abs() < 1e-8
    assert torch.autograd.grad(event.state[0], y0)[0].abs().max() < 1e-10  # it stays on the floor


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_gradients_of_a_nonlinear_event_in_time_and_state_pass_gradcheck(gradient):
    def event(y0, rate, level):
        def f(t, y):
            return torch.stack([y[1], -rate * torch.sin(y[0])])

        def surface(t, y):
            return y[0] * (1 + t) - level

        found = solve(f, y0, [0.0, 10.0], events=surface, gradient=gradient, **TIGHT).event
        return found.time, found.state

    inputs = [number([1.2, 0.1]), number(1.5), number(0.3)]
    assert torch.autograd.gradcheck(event, [z.requires_grad_() for z in inputs], atol=1e-6)


def test_second_derivatives_are_right_on_the_tape():
    def event(y0, level):
        def f(t, y):
            return torch.stack([y[1], -torch.sin(y[0])])

        found = solve(
            f, y0, [0.0, 10.0], events=lambda t, y: y[0] * (1 + t) - level, gradient="tape", **TIGHT
        ).event
        return found.time, found.state

    inputs = [number([1.2, 0.1]).requires_grad_(), number(0.3).requires_grad_()]
    assert torch.autograd.gradgradcheck(event, inputs, atol=1e-5, rtol=1e-4)


def test_a_bouncing_ball_follows_its_closed_form_and_its_gradients():
    restitution = number(0.8).requires_grad_()
    drop = number(1.0).requires_grad_()
    y, t, landings = torch.stack([drop, number(0.0)]), number(0.0), []
    for _ in range(4):
        event = solve(
            falling(), y, torch.stack([t, t.detach() + 10]), events=Event(height, -1), **TIGHT
        ).event
        t = event.time
        y = torch.stack([number(0.0), -restitution * event.state[1]])
        landings.append(t)
    first = (2 * drop / 9.81).sqrt()
    exact = [first * (1 + 2 * sum(restitution**k for k in range(1, n + 1))) for n in range(4)]
    assert torch.allclose(torch.stack(landings), torch.stack(exact), rtol=1e-9)
    ours = torch.autograd.grad(landings[-1], [restitution, drop])
    theirs = torch.autograd.grad(exact[-1], [restitution, drop])
    assert torch.allclose(torch.stack(ours), torch.stack(theirs), rtol=1e-7)


def test_directions_and_events_that_do_not_end_the_solve():
    def oscillator(t, y):
        return torch.stack([y[1], -y[0]])

    y0, span = number([0.0, 1.0]), [0.0, 10.0]
    for direction, expected in ((0, [1, 2, 3]), (-1, [1, 3]), (1, [2])):
        solution = solve(oscillator, y0, span, events=[Event(height, direction, terminal=False)], **TIGHT)
        assert solution.event.terminal is None
        times = torch.stack([crossing.time for crossing in solution.event.crossings])
        assert torch.allclose(times, number(expected) * math.pi, atol=1e-8)
        assert torch.allclose(solution.ys[-1], number([math.sin(10), math.cos(10)]), atol=1e-8)
    both = solve(
        oscillator, y0, span, events=[Event(height, terminal=False), Event(lambda t, y: t - 7.0)], **TIGHT
    )
    assert [crossing.index for crossing in both.event.crossings] == [0, 0, 1]
    assert both.event.time.item() == pytest.approx(7.0)


def test_time_may_run_backwards_and_states_may_be_trees():
    def f(t, y):
        return {"x": y["v"], "v": -y["x"]}

    y0 = {"x": number(0.0), "v": number(1.0)}
    event = solve(f, y0, [0.0, -5.0], events=lambda t, y: y["x"], **TIGHT).event
    assert event.time.item() == pytest.approx(-math.pi, abs=1e-8)
    assert event.state["v"].item() == pytest.approx(-1.0, abs=1e-8)


def test_no_event_is_said_when_asked_for():
    solution = solve(falling(), number([100.0, 0.0]), [0.0, 1.0], events=height)
    assert solution.event.terminal is None
    assert solution.event.crossings == []
    assert solution.ys.isfinite().all()
    with pytest.raises(InvalidValueError, match="no terminal event"):
        _ = solution.event.time


def test_an_event_at_an_observed_time_is_read_once():
    solution = solve(
        lambda t, y: torch.ones_like(y), number([0.0]), [0.0, 1.0, 2.0], events=lambda t, y: y - 1
    )
    assert solution.event.time.item() == pytest.approx(1.0, abs=1e-12)
    assert solution.ys[:2].isfinite().all()


def test_a_touch_without_crossing_has_no_derivative_and_says_so():
    y0 = number([-1.0]).requires_grad_()
    with pytest.raises(NumericalError, match="without crossing"):
        solve(
            lambda t, y: torch.ones_like(y),
            y0,
            [0.0, 0.5, 1.0],
            events=lambda t, y: -y.square(),
            method="euler",
        )


@pytest.mark.parametrize(
    ("events", "error", "match"),
    [
        ([], InvalidValueError, "empty"),
        (3, InvalidTypeError, "int"),
        (lambda t, y: 1.0, InvalidTypeError, "float"),
        (lambda t, y: y, ShapeError, r"\(2,\)"),
    ],
)
def test_bad_events_are_named(events, error, match):
    with pytest.raises(error, match=match):
        solve(falling(), number([1.0, 0.0]), [0.0, 1.0], events=events)


def test_bad_directions_are_named():
    with pytest.raises(InvalidValueError, match="direction is 2"):
        Event(height, 2)
