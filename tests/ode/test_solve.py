"""`solve`: the states, at any structure, direction and grid, and what it refuses."""

from __future__ import annotations

import math
from collections import namedtuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fingerpost.errors import InvalidTypeError, InvalidValueError, NumericalError, ShapeError
from fingerpost.ode import METHODS, ConstantStepSize, PIDController, solve

F64 = torch.float64
EXPLICIT_ADAPTIVE = ("bosh3", "dopri5", "tsit5", "dop853")
EXPLICIT_FIXED = {"euler": 1, "heun": 2, "midpoint": 2, "rk4": 4}


def wave(t: Tensor, y: Tensor) -> Tensor:
    """y' = y cos t, y = y0 exp(sin t)."""
    return y * torch.cos(t)


def wave_at(t: list[float], y0: Tensor) -> Tensor:
    return torch.stack([y0 * math.exp(math.sin(s) - math.sin(t[0])) for s in t])


def start() -> Tensor:
    return torch.tensor([1.0, -2.0, 0.5], dtype=F64)


@pytest.mark.parametrize("method", EXPLICIT_ADAPTIVE)
@pytest.mark.parametrize("times", [[0.0, 0.3, 1.0, 4.0], [2.0, 1.5, -1.0]], ids=["forwards", "backwards"])
@pytest.mark.parametrize("tolerance", [1e-4, 1e-8])
def test_adaptive_methods_reach_their_tolerance_at_every_observation(
    method: str, times: list[float], tolerance: float
) -> None:
    solution = solve(wave, start(), times, method=method, rtol=tolerance, atol=tolerance)
    assert (solution.ys - wave_at(times, start())).abs().max() < 20 * tolerance
    assert solution.steps[0] == times[0]
    assert solution.steps[-1] == times[-1]
    assert solution.status == "success"


@pytest.mark.parametrize(("method", "order"), EXPLICIT_FIXED.items())
def test_fixed_steps_converge_with_the_methods_order(method: str, order: int) -> None:
    times = [0.0, 2.0]
    errors = [
        (solve(wave, start(), times, method=method, step_size=h).ys - wave_at(times, start())).abs().max()
        for h in (0.1, 0.05)
    ]
    assert 2 ** (order - 0.35) < errors[0] / errors[1] < 2 ** (order + 0.7)


@pytest.mark.parametrize("method", [*EXPLICIT_FIXED, *EXPLICIT_ADAPTIVE])
def test_a_grid_without_step_size_is_stepped_through_as_it_is(method: str) -> None:
    times = [0.0, 0.25, 0.5, 1.0]
    solution = solve(wave, start(), times, method=method, controller=ConstantStepSize())
    assert solution.steps == times
    assert solution.stats.rejected == 0


def test_fixed_steps_land_on_the_end_and_observations_cost_no_step() -> None:
    few = solve(wave, start(), [0.0, 1.0], method="rk4", step_size=0.3)
    many = solve(wave, start(), torch.linspace(0, 1, 50), method="rk4", step_size=0.3)
    assert few.steps == pytest.approx([0.0, 0.3, 0.6, 0.9, 1.0])
    assert many.stats.nfe == few.stats.nfe == 16
    assert torch.equal(few.ys[-1], many.ys[-1])


def test_observations_cost_no_evaluation_of_an_adaptive_method() -> None:
    few = solve(wave, start(), [0.0, 5.0])
    many = solve(wave, start(), torch.linspace(0, 5, 200))
    assert many.stats.nfe == few.stats.nfe
    assert torch.equal(few.ys[-1], many.ys[-1])


def test_evaluations_are_counted_and_the_first_stage_is_reused() -> None:
    calls = 0

    def counted(t: Tensor, y: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return wave(t, y)

    solution = solve(counted, start(), [0.0, 3.0])
    steps = solution.stats.accepted + solution.stats.rejected
    assert solution.stats.nfe == calls
    assert calls == 6 * steps + 2  # k1 once, and one for the first step length


Pair = namedtuple("Pair", ["x", "v"])


@pytest.mark.parametrize("kind", ["tuple", "list", "dict", "named", "nested"])
def test_any_nest_of_tensors_is_a_state_and_comes_back_as_one(kind: str) -> None:
    x, v = torch.ones(2, 3, dtype=F64), torch.zeros(2, dtype=F64)
    make = {
        "tuple": lambda a, b: (a, b),
        "list": lambda a, b: [a, b],
        "dict": lambda a, b: {"x": a, "v": b},
        "named": Pair,
        "nested": lambda a, b: {"x": (a, [b])},
    }[kind]
    parts = {
        "tuple": lambda s: s,
        "list": lambda s: s,
        "dict": lambda s: (s["x"], s["v"]),
        "named": lambda s: (s.x, s.v),
        "nested": lambda s: (s["x"][0], s["x"][1][0]),
    }[kind]

    def f(t: Tensor, state: object) -> object:
        a, b = parts(state)
        return make(-a, torch.cos(t) * torch.ones_like(b))

    solution = solve(f, make(x, v), [0.0, 0.7, 1.5], rtol=1e-9, atol=1e-9)
    a, b = parts(solution.ys)
    assert a.shape == (3, 2, 3)
    assert b.shape == (3, 2)
    assert type(solution.ys) is type(make(x, v))
    torch.testing.assert_close(a[-1], x * math.exp(-1.5), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(b[1], torch.full((2,), math.sin(0.7), dtype=F64), rtol=1e-8, atol=1e-8)
    assert parts(solution.at(1.0))[0].shape == (2, 3)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_a_complex_state_rotates(dtype: torch.dtype, nested: bool) -> None:
    z = torch.tensor([1.0, 2j], dtype=dtype)
    if nested:
        ys = solve(lambda t, s: {"z": 1j * s["z"]}, {"z": z}, [0.0, math.pi], rtol=1e-6, atol=1e-6).ys["z"]
    else:
        ys = solve(lambda t, s: 1j * s, z, [0.0, math.pi], rtol=1e-6, atol=1e-6).ys
    assert ys.dtype == dtype
    assert (ys[-1] + z).abs().max() < 2e-5


def test_conjugated_and_transposed_views_are_states_and_derivatives_like_any_other() -> None:
    z = torch.tensor([1.0 + 1j, 2j], dtype=torch.complex128)
    ys = solve(lambda t, y: y.conj(), z.conj(), [0.0, 0.5], rtol=1e-9, atol=1e-9).ys
    exact = torch.complex(z.real * math.exp(0.5), -z.imag * math.exp(-0.5))
    torch.testing.assert_close(ys[-1], exact, rtol=1e-7, atol=1e-9)
    y = torch.arange(6.0, dtype=F64).reshape(2, 3).t()
    ys = solve(lambda t, y: -y.t().contiguous().t(), y, [0.0, 0.5, 1.0], rtol=1e-9, atol=1e-9).ys
    torch.testing.assert_close(ys[-1], y * math.exp(-1.0), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_time_reaches_the_field_as_a_scalar_of_the_states_precision(dtype: torch.dtype) -> None:
    seen = set()

    def f(t: Tensor, y: Tensor) -> Tensor:
        seen.add((t.dtype, t.ndim, t.device.type))
        return -y

    for method in ("dopri5", "rk4"):
        assert solve(f, torch.ones(2, dtype=dtype), [0, 1], method=method).ys.dtype == dtype
    assert seen == {(dtype, 0, "cpu")}


@settings(max_examples=25, deadline=None)
@given(
    shape=st.lists(st.integers(1, 3), max_size=3),
    times=st.lists(st.floats(-3, 3), min_size=2, max_size=6, unique=True),
    backwards=st.booleans(),
)
def test_shapes_and_times_of_any_kind(shape: list[int], times: list[float], backwards: bool) -> None:
    times = sorted(times, reverse=backwards)
    y0 = torch.ones(shape, dtype=F64)
    solution = solve(wave, y0, times, rtol=1e-6, atol=1e-6)
    assert solution.ys.shape == (len(times), *shape)
    assert (solution.ys - wave_at(times, y0)).abs().max() < 1e-3


def test_a_solve_repeats_bit_for_bit_and_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    first, second = (solve(wave, start(), [0.0, 2.0]).ys for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())


def test_tolerances_may_be_tensors_and_nests() -> None:
    y0 = (torch.ones(3, dtype=F64), torch.ones(2, dtype=F64))

    def f(t: Tensor, y: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return -y[0], torch.cos(20 * t) * y[1]

    tight = solve(f, y0, [0.0, 1.0], rtol=1e-8, atol=1e-8)
    loose = solve(f, y0, [0.0, 1.0], rtol=1e-8, atol=(torch.tensor(1e-8), torch.tensor([1e3, 1e3])))
    assert loose.stats.accepted < tight.stats.accepted / 2
    wide = solve(wave, start(), [0.0, 1.0], rtol=torch.tensor([1e-6, 1e-3, 1e-3]), atol=torch.tensor(1e-6))
    assert (wide.ys[-1] - wave_at([0.0, 1.0], start())[-1]).abs().max() < 1e-3


def test_norms_differ_where_one_component_is_hard() -> None:
    y0 = (torch.ones(1000, dtype=F64), torch.ones(1, dtype=F64))

    def f(t: Tensor, y: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(y[0]), torch.cos(10 * t) * y[1]

    accepted = {
        norm: solve(f, y0, [0.0, 2.0], rtol=1e-6, atol=1e-6, norm=norm).stats.accepted
        for norm in ("rms", "max", "per_leaf")
    }
    assert accepted["rms"] < accepted["per_leaf"] <= accepted["max"]
    own = solve(f, y0, [0.0, 2.0], rtol=1e-6, atol=1e-6, norm=lambda e: e[1].abs().max())
    assert own.stats.accepted == accepted["max"]


def blow_up(t: Tensor, y: Tensor) -> Tensor:
    """y' = y², infinite at t = 1."""
    return y * y


@pytest.mark.parametrize("method", EXPLICIT_ADAPTIVE)
def test_a_blow_up_names_time_and_step(method: str) -> None:
    with pytest.raises(NumericalError, match=r"at t = (1\.0|1,|0\.999|1 *,).*step \d+, h = "):
        solve(blow_up, torch.ones(1, dtype=F64), [0.0, 2.0], method=method)


def test_a_partial_solution_keeps_what_was_reached() -> None:
    times = [0.0, 0.5, 0.9, 1.5, 2.0]
    solution = solve(blow_up, torch.ones(1, dtype=F64), times, on_failure="partial")
    assert solution.status in ("step_underflow", "non_finite")
    assert "t = " in solution.message
    torch.testing.assert_close(
        solution.ys[:3, 0], 1 / (1 - torch.tensor(times[:3], dtype=F64)), rtol=1e-3, atol=0
    )
    assert solution.ys[3:].isnan().all()
    assert 0.9 < solution.steps[-1] < 1.001
    torch.testing.assert_close(solution.at(0.75), torch.full((1,), 4.0, dtype=F64), rtol=1e-3, atol=0)
    with pytest.raises(InvalidValueError, match="outside of the steps"):
        solution.at(1.5)


@pytest.mark.parametrize("method", ["euler", "rk4", "dopri5"])
def test_a_fixed_grid_that_becomes_non_finite_names_the_first_bad_step(method: str) -> None:
    def f(t: Tensor, y: Tensor) -> Tensor:
        return torch.where(t > 0.45, torch.nan, -y)

    y0 = torch.ones(2, dtype=F64)
    with pytest.raises(NumericalError, match=r"non-finite at t = 0\.[45].*step [56]"):
        solve(f, y0, [0.0, 1.0], method=method, step_size=0.1)
    solution = solve(f, y0, [0.0, 0.2, 0.8, 1.0], method=method, step_size=0.1, on_failure="partial")
    assert solution.status == "non_finite"
    assert solution.ys[:2].isfinite().all()
    assert solution.ys[2:].isnan().all()
    assert solution.steps[-1] < 0.65


def test_a_field_undefined_ahead_is_overcome_by_shorter_steps() -> None:
    def f(t: Tensor, y: Tensor) -> Tensor:
        return torch.sqrt(y - 0.3) * -1.0  # undefined below 0.3, which a long step would visit

    solution = solve(f, torch.ones(1, dtype=F64), [0.0, 1.6], first_step=1.6)
    exact = 0.3 + (math.sqrt(0.7) - 0.8) ** 2
    assert abs(float(solution.ys[-1]) - exact) < 1e-4
    assert solution.stats.rejected > 0


def test_a_field_that_is_not_finite_at_the_start_says_so() -> None:
    with pytest.raises(NumericalError, match="non-finite at t = 0"):
        solve(lambda t, y: y / 0.0, torch.ones(1), [0.0, 1.0])


@pytest.mark.parametrize("options", [{}, {"method": "rk4", "step_size": 0.01}], ids=["adaptive", "fixed"])
def test_max_steps_stops_and_keeps_what_was_reached(options: dict) -> None:
    with pytest.raises(NumericalError, match=r"max_steps=3 at t = "):
        solve(wave, start(), [0.0, 9.0], max_steps=3, **options)
    solution = solve(wave, start(), [0.0, 1e-3, 9.0], max_steps=3, on_failure="partial", **options)
    assert solution.status == "max_steps"
    assert solution.ys[1].isfinite().all()
    assert solution.ys[2].isnan().all()
    assert solution.stats.accepted + solution.stats.rejected == 3


def test_stiffness_underflows_nothing_but_is_slow_and_says_which_method_to_use() -> None:
    with pytest.raises(NumericalError, match="kvaerno5"):
        solve(lambda t, y: -1e6 * (y - torch.cos(t)), torch.zeros(1, dtype=F64), [0.0, 1.0], max_steps=50)


ONES = torch.ones(2, dtype=F64)
BAD = [
    ({"f": 3}, InvalidTypeError, "f must be callable"),
    ({"y0": torch.ones(2, dtype=torch.int64)}, InvalidTypeError, r"int64.*y0.float\(\)"),
    ({"y0": torch.ones(2, dtype=torch.bfloat16)}, InvalidTypeError, "bfloat16"),
    ({"y0": torch.ones(0, dtype=F64)}, ShapeError, "no elements"),
    ({"y0": ()}, InvalidValueError, "no tensors"),
    ({"y0": (ONES, 1.0)}, InvalidTypeError, "holds a float"),
    ({"y0": (ONES, ONES.float())}, InvalidTypeError, "mixes precisions"),
    ({"y0": (ONES, torch.ones(2, dtype=F64, device="meta"))}, InvalidValueError, "several devices"),
    ({"t": [0.0]}, ShapeError, "at least 2 times"),
    ({"t": torch.zeros(2, 2)}, ShapeError, "one dimension"),
    ({"t": [0.0, 0.5, 0.5]}, InvalidValueError, r"t\[1\] = 0.5 and t\[2\] = 0.5"),
    ({"t": [0.0, 1.0, 0.5]}, InvalidValueError, "strictly"),
    ({"t": [0.0, math.nan]}, InvalidValueError, "finite"),
    ({"t": [0.0, math.inf]}, InvalidValueError, "finite"),
    ({"t": torch.tensor([0j, 1j])}, InvalidTypeError, "real"),
    ({"method": "dopri"}, InvalidValueError, "did you mean 'dopri5'"),
    ({"method": 5}, InvalidValueError, "unknown"),
    ({"gradient": "adjoint"}, InvalidValueError, "gradient 'adjoint' is unknown"),
    ({"gradient": "checkpoints"}, InvalidValueError, "did you mean 'checkpoint'"),
    ({"controller": "pid"}, InvalidValueError, "expected 'I', 'PI' or 'PID'"),
    ({"controller": 3}, InvalidTypeError, "PIDController"),
    ({"controller": "PI", "method": "rk4"}, InvalidValueError, "rk4 has no error estimate"),
    ({"controller": "PI", "step_size": 0.1}, InvalidValueError, "both given"),
    ({"norm": "rmse"}, InvalidValueError, "did you mean 'rms'"),
    ({"rtol": 0.0}, InvalidValueError, "rtol must be above 0"),
    ({"rtol": -1e-3}, InvalidValueError, "rtol must be above 0"),
    ({"atol": math.nan}, InvalidValueError, "atol must be above 0"),
    ({"atol": torch.tensor([1e-3, 0.0])}, InvalidValueError, "above 0 everywhere"),
    ({"atol": torch.ones(3)}, ShapeError, "does not broadcast"),
    ({"atol": (1e-3, 1e-3)}, InvalidTypeError, "like the state"),
    ({"step_size": 0.0}, InvalidValueError, "step_size must be above 0"),
    ({"step_size": -0.1}, InvalidValueError, "step_size must be above 0"),
    ({"first_step": 0.0}, InvalidValueError, "first_step must be above 0"),
    ({"max_steps": 0}, InvalidValueError, "max_steps"),
    ({"max_steps": 1.5}, InvalidValueError, "max_steps"),
    ({"on_failure": "ignore"}, InvalidValueError, "on_failure"),
    ({"params": [1.0]}, InvalidTypeError, "params must be tensors"),
    ({"f": lambda t, y: y[:1]}, ShapeError, r"shape \(1,\), expected the state's, \(2,\)"),
    ({"f": lambda t, y: torch.zeros(())}, ShapeError, "expected the state's"),
    ({"f": lambda t, y: y.float()}, InvalidTypeError, "float32, expected the state's torch.float64"),
    ({"f": lambda t, y: (y,)}, InvalidTypeError, r"structure \(\*\), the state \*"),
    ({"f": lambda t, y: 0.0}, InvalidTypeError, "float"),
    ({"f": lambda t, y: y.to("meta")}, InvalidValueError, "meta"),
    ({"f": lambda t, y: (y[0],), "y0": (ONES, ONES)}, InvalidTypeError, "structure"),
    ({"f": lambda t, y: y if t < 0.3 else y[:1]}, ShapeError, "expected the state's"),
]


@pytest.mark.parametrize(("changes", "error", "message"), BAD)
def test_bad_input_is_named(changes: dict, error: type[Exception], message: str) -> None:
    arguments = {"f": wave, "y0": ONES, "t": [0.0, 1.0], **changes}
    with pytest.raises(error, match=message):
        solve(**arguments)


def test_every_method_is_in_the_table_under_its_own_name() -> None:
    assert all(method.name == name for name, method in METHODS.items())
    assert {"euler", "heun", "midpoint", "rk4", *EXPLICIT_ADAPTIVE} <= set(METHODS)


def test_a_method_may_be_given_as_an_instance() -> None:
    named, given_ = (solve(wave, start(), [0.0, 1.0], method=m).ys for m in ("tsit5", METHODS["tsit5"]()))
    assert torch.equal(named, given_)


def test_heun_takes_fixed_steps_unless_a_controller_is_asked_for() -> None:
    assert solve(wave, start(), [0.0, 0.5, 1.0], method="heun").stats.accepted == 2
    adaptive = solve(
        wave, start(), [0.0, 1.0], method="heun", controller=PIDController(), rtol=1e-4, atol=1e-4
    )
    assert adaptive.stats.accepted > 5
    assert (adaptive.ys[-1] - wave_at([0.0, 1.0], start())[-1]).abs().max() < 1e-3
