"""Couplings: exact against brute force and scipy, marginals kept, the fault of drawing with replacement, bad input."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from fingerpost import flow
from fingerpost.errors import InvalidTypeError, InvalidValueError, NumericalError, ShapeError
from fingerpost.flow.couplings.base import squared_distances

COUPLINGS = {
    "independent": flow.Independent(),
    "exact": flow.ExactOT(),
    "entropic": flow.Sinkhorn(epsilon=1.0),
}


def batches(n: int, d: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x0, x1 = torch.randn(2, n, d, generator=generator, dtype=torch.float64)
    return x0, 2 * x1 + 1


def cost(x0: Tensor, x1: Tensor) -> float:
    return float((x0 - x1).square().sum())


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 6), d=st.integers(1, 3), seed=st.integers(0, 10**6))
def test_exact_transport_is_the_best_of_all_permutations(n: int, d: int, seed: int) -> None:
    x0, x1 = batches(n, d, seed)
    best = min(cost(x0[list(order)], x1) for order in itertools.permutations(range(n)))
    assert cost(*flow.ExactOT()(x0, x1)) == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("n", [127, 128, 257, 800])
@pytest.mark.parametrize("d", [2, 20])
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_exact_transport_has_the_cost_of_scipys_cold_solver(n: int, d: int, scale: float) -> None:
    x0, x1 = (scale * x for x in batches(n, d, seed=n))
    rows, columns = linear_sum_assignment(torch.cdist(x1, x0).square().numpy())
    assert cost(*flow.ExactOT()(x0, x1)) == pytest.approx(cost(x0[columns], x1[rows]), rel=1e-11)


def test_exact_transport_survives_equal_points_and_far_outliers() -> None:
    x0, x1 = batches(64)
    x0[:32], x1[:20] = x0[0], x1[0]
    x1[-1] = 1e7
    rows, columns = linear_sum_assignment(torch.cdist(x1, x0).square().numpy())
    assert cost(*flow.ExactOT()(x0, x1)) == pytest.approx(cost(x0[columns], x1[rows]), rel=1e-11)


def test_exact_transport_uses_every_row_once_and_drawing_with_replacement_loses_a_third() -> None:
    x0, x1 = batches(512)
    paired, same = flow.ExactOT()(x0, x1)
    assert same is x1
    assert len(paired.unique(dim=0)) == 512
    # what others do: B pairs drawn from the plan, with replacement. The plan is a permutation, so 1/e of rows is lost
    drawn = torch.randint(512, (512,), generator=torch.Generator().manual_seed(0))
    kept = len(x1[drawn].unique(dim=0)) / 512
    assert kept == pytest.approx(1 - 1 / math.e, abs=0.04)


@pytest.mark.parametrize("name", ["independent", "exact"])
def test_the_paired_noise_is_a_permutation_of_the_noise(name: str) -> None:
    x0, x1 = batches(40)
    paired, _ = COUPLINGS[name](x0, x1)
    torch.testing.assert_close(paired.sort(0).values, x0.sort(0).values, rtol=0, atol=0)


def test_images_are_transported_as_vectors() -> None:
    x0, x1 = torch.randn(2, 12, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    paired, _ = flow.ExactOT()(x0, x1)
    flat, _ = flow.ExactOT()(x0.flatten(1), x1.flatten(1))
    assert torch.equal(paired.flatten(1), flat)


def test_entropic_transport_has_uniform_marginals_and_tends_to_exact_and_to_independent() -> None:
    x0, x1 = batches(24)
    for epsilon in (2.0, 10.0):
        plan = flow.Sinkhorn(epsilon, tolerance=1e-9).log_plan(x0, x1).exp()
        for axis in (0, 1):
            torch.testing.assert_close(
                plan.sum(axis), torch.full((24,), 1 / 24, dtype=plan.dtype), rtol=1e-8, atol=0
            )
    x0, x1 = batches(8)
    exact = cost(*flow.ExactOT()(x0, x1)) / 8
    distances = squared_distances(x1, x0)
    costs = []
    for epsilon in (0.05, 0.5, 5.0, 1e6):
        plan = flow.Sinkhorn(epsilon, tolerance=1e-3).log_plan(x0, x1).exp()
        costs.append(float((plan * distances).sum()))
    assert costs == sorted(costs)
    assert costs[0] == pytest.approx(exact, rel=0.01)
    assert costs[-1] == pytest.approx(float(distances.mean()), rel=1e-5)


def test_the_entropic_plan_of_two_points_is_known() -> None:
    """x0 = x1 = {0, 1}: P_ii / P_ij = e^{1/ε}."""
    points = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    plan = flow.Sinkhorn(0.5, tolerance=1e-12).log_plan(points, points).exp()
    near = 0.5 / (1 + math.exp(-2.0))
    torch.testing.assert_close(plan.diagonal(), torch.full((2,), near, dtype=plan.dtype), rtol=1e-10, atol=0)


def test_entropic_pairs_are_drawn_from_the_plan() -> None:
    points = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    coupling, generator = flow.Sinkhorn(0.5), torch.Generator().manual_seed(0)
    same = sum(int((coupling(points, points, generator=generator)[0] == points).sum()) for _ in range(1000))
    assert same / 2000 == pytest.approx(1 / (1 + math.exp(-2.0)), abs=4 * math.sqrt(0.105 / 2000))


def test_entropic_transport_that_did_not_converge_says_how_far_it_came() -> None:
    x0, x1 = batches(50)
    with pytest.raises(
        NumericalError, match=r"after 3 iterations the worst row sum is off by .* raise epsilon"
    ):
        flow.Sinkhorn(0.01, max_iterations=3)(x0, x1)


def test_transport_within_classes_never_mixes_them() -> None:
    x0, x1 = batches(60)
    labels = torch.randint(3, (60,), generator=torch.Generator().manual_seed(1))
    x0 = torch.cat([x0, labels[:, None].double()], 1)
    paired, _ = flow.ExactOT(within_class=True)(x0, torch.cat([x1, torch.zeros(60, 1)], 1), condition=labels)
    assert torch.equal(paired[:, 2].long(), labels)
    for label in range(3):
        rows = labels == label
        alone, _ = flow.ExactOT()(x0[rows], torch.cat([x1, torch.zeros(60, 1)], 1)[rows])
        assert cost(paired[rows], torch.cat([x1, torch.zeros(60, 1)], 1)[rows]) == pytest.approx(
            cost(alone, torch.cat([x1, torch.zeros(60, 1)], 1)[rows]), rel=1e-12
        )


def test_a_condition_weight_goes_from_plain_transport_to_transport_within_equal_conditions() -> None:
    x0, x1 = batches(60)
    labels = torch.randint(3, (60,), generator=torch.Generator().manual_seed(1))
    plain, heavy = (
        flow.ExactOT(condition_weight=w)(x0, x1, condition=labels[:, None].double())[0] for w in (0.0, 1e6)
    )
    assert torch.equal(plain, flow.ExactOT()(x0, x1)[0])
    assert torch.equal(heavy, flow.ExactOT(within_class=True)(x0, x1, condition=labels)[0])


def test_plain_transport_makes_the_noise_depend_on_the_class_and_transport_within_does_not() -> None:
    """The fault that the condition-aware couplings mend: two classes, left and right."""
    labels = torch.arange(400) % 2
    generator = torch.Generator().manual_seed(2)
    x0 = torch.randn(400, 2, generator=generator)
    x1 = torch.randn(400, 2, generator=generator) + 4 * labels[:, None]
    plain = flow.ExactOT()(x0, x1)[0]
    within = flow.ExactOT(within_class=True)(x0, x1, condition=labels)[0]
    skew = [
        float((paired[labels == 1].mean(0) - paired[labels == 0].mean(0)).norm())
        for paired in (plain, within)
    ]
    assert skew[0] > 1.0
    assert skew[1] < 0.4  # two means of 200 normal numbers: 0.14 a coordinate


@pytest.mark.parametrize("name", COUPLINGS)
def test_bad_batches_are_refused_by_row_and_shape(name: str) -> None:
    coupling, (x0, x1) = COUPLINGS[name], batches(8)
    with pytest.raises(ShapeError, match="x0 has shape"):
        coupling(x0[:5], x1)
    with pytest.raises(ShapeError, match="B ≥ 1"):
        coupling(x0[:0], x1[:0])
    broken = x1.clone()
    broken[3, 0] = math.nan
    with pytest.raises(InvalidValueError, match="x1 has NaN or infinite values in rows 3"):
        coupling(x0, broken)
    with pytest.raises(InvalidTypeError, match=r"torch\.int64"):
        coupling(x0.long(), x1.long())


def test_bad_conditions_and_settings_are_refused() -> None:
    x0, x1 = batches(8)
    within = flow.ExactOT(within_class=True)
    with pytest.raises(InvalidValueError, match="needs the rows' conditions"):
        within(x0, x1)
    with pytest.raises(ShapeError, match="integer labels"):
        within(x0, x1, condition=torch.rand(8))
    with pytest.raises(ShapeError, match="5 rows"):
        within(x0, x1, condition=torch.zeros(5).long())
    with pytest.raises(InvalidValueError, match="not both"):
        flow.ExactOT(within_class=True, condition_weight=1.0)
    with pytest.raises(InvalidValueError, match="condition_weight is -1"):
        flow.ExactOT(condition_weight=-1)
    with pytest.raises(InvalidValueError, match="epsilon is 0"):
        flow.Sinkhorn(0)
    with pytest.raises(InvalidValueError, match="tolerance"):
        flow.Sinkhorn(1.0, tolerance=0)
    with pytest.raises(InvalidValueError, match="ahead is 0"):
        flow.Prefetched(lambda step: step, ahead=0)


def test_prefetched_batches_are_the_same_in_any_order_of_steps() -> None:
    def draw(step: int) -> Tensor:
        return torch.rand(3, generator=torch.Generator().manual_seed(step))

    with flow.Prefetched(draw, ahead=2) as ahead:
        for step in (0, 1, 2, 7, 8, 3, 3):  # a resume jumps
            assert torch.equal(ahead(step), draw(step))


def test_an_error_in_a_prefetched_batch_arrives_at_its_step() -> None:
    def draw(step: int) -> int:
        if step == 2:
            raise InvalidValueError("row 17 is bad")
        return step

    with flow.Prefetched(draw) as ahead:
        assert [ahead(0), ahead(1)] == [0, 1]
        with pytest.raises(InvalidValueError, match="row 17"):
            ahead(2)
