"""Global errors and evaluations beside SciPy's, on the DETEST problems and on stiff ones."""

from __future__ import annotations

import pytest
import torch

from fingerpost.ode import solve
from ode.problems import CLOSED, DETEST, STIFF, Problem


def name(problem: Problem) -> str:
    return problem.name


# A global error is the local errors, each about a tolerance, times what the problem makes of them until the end.
# A bound of 100 tolerances holds for all but the orbits, whose errors in phase grow with the square of time (D1 to D5),
# the competition of B1 and the forced oscillation of E3, which both multiply an early error, and B4, whose right-hand
# side is steep where the orbit passes the torus' hole. SciPy's pairs of the same orders need the same multiples.
MULTIPLE = {"D": 1500.0, "B1": 150.0, "B4": 150.0, "E3": 250.0}
TIGHT = ("dopri5", "tsit5", "dop853")
TWINS = {"dopri5": "RK45", "dop853": "DOP853", "bosh3": "RK23"}


def multiple(problem: Problem) -> float:
    return MULTIPLE.get(problem.name, MULTIPLE.get(problem.name[0], 100.0))


def error(problem: Problem, method: str, tolerance: float) -> tuple[float, int]:
    """The largest error of the final state, and the evaluations."""
    y0, times = problem.y0, problem.times
    solution = solve(problem.f, y0, times, method=method, rtol=tolerance, atol=tolerance * problem.atol)
    found = (solution.ys[-1] - problem.truth()[-1]).abs().max()  # pyright: ignore[reportArgumentType]
    return float(found), solution.stats.nfe


@pytest.mark.parametrize("problem", [p for p in CLOSED + DETEST if p.exact is not None], ids=name)
def test_the_closed_form_is_that_of_the_field(problem: Problem) -> None:
    end, _ = problem.scipy("DOP853", 1e-12, 1e-14)
    torch.testing.assert_close(torch.from_numpy(end), problem.truth()[-1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("tolerance", [1e-6, 1e-9])
@pytest.mark.parametrize("method", TIGHT)
@pytest.mark.parametrize("problem", DETEST, ids=name)
def test_the_error_is_within_the_stated_multiple_of_the_tolerance(
    problem: Problem, method: str, tolerance: float
) -> None:
    found, _ = error(problem, method, tolerance)
    assert found < multiple(problem) * tolerance


@pytest.mark.parametrize("problem", DETEST, ids=name)
def test_a_pair_of_low_order_is_within_its_multiple_too(problem: Problem) -> None:
    found, _ = error(problem, "bosh3", 1e-5)
    assert found < 5 * multiple(problem) * 1e-5  # more steps, each with an error of about a tolerance


@pytest.mark.parametrize("method", TWINS)
@pytest.mark.parametrize("problem", DETEST, ids=name)
def test_the_same_pair_costs_and_errs_as_in_scipy(problem: Problem, method: str) -> None:
    tolerance = 1e-5 if method == "bosh3" else 1e-7
    found, nfe = error(problem, method, tolerance)
    end, theirs = problem.scipy(TWINS[method], tolerance, tolerance)
    their_error = float((torch.from_numpy(end) - problem.truth()[-1]).abs().max())
    assert nfe <= 1.25 * theirs
    assert found <= 3 * their_error + 3 * tolerance  # below that, errors of both signs happen to cancel


@pytest.mark.parametrize("tolerance", [1e-4, 1e-6, 1e-8])
@pytest.mark.parametrize("problem", STIFF, ids=name)
def test_stiff_problems_agree_with_radau(problem: Problem, tolerance: float) -> None:
    times, atol = problem.times, tolerance * problem.atol
    truth = problem.truth()[1:]
    method = "kvaerno3" if tolerance > 1e-5 else "kvaerno5"
    solution = solve(problem.f, problem.y0, times, method=method, rtol=tolerance, atol=atol)
    scale = atol + tolerance * truth.abs()
    ratio = (solution.ys[1:] - truth).abs() / scale  # pyright: ignore[reportIndexIssue]
    assert float(ratio.max()) < 100


@pytest.mark.parametrize("problem", STIFF, ids=name)
def test_an_explicit_pair_pays_for_stiffness_many_times_over(problem: Problem) -> None:
    span = (problem.times[0], problem.times[1])
    counts = {
        method: solve(
            problem.f, problem.y0, span, method=method, rtol=1e-4, atol=1e-4 * problem.atol, dense=False
        ).stats.accepted
        for method in ("bosh3", "kvaerno3")
    }
    assert counts["bosh3"] > 2 * counts["kvaerno3"]
