"""Structure-factor amplitudes: each reflection has the law of its kind, and Wilson's statistics at loc = 0."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import kl_divergence

from fingerpost.distributions import FoldedNormal, Rice, RiceWoolfson
from fingerpost.errors import InvalidTypeError

LOC = torch.tensor([0.0, 0.4, 3.0, 50.0], dtype=torch.float64)
CENTRIC = torch.tensor([True, False, True, False])


def test_each_reflection_has_the_law_of_its_kind():
    both = RiceWoolfson(LOC, 0.8, CENTRIC)
    value = torch.tensor([0.5, 0.9, 2.0, 49.0], dtype=torch.float64)
    kinds = FoldedNormal(LOC, 0.8), Rice(LOC, 0.8)
    for of in (
        lambda d: d.log_prob(value),
        lambda d: d.cdf(value),
        lambda d: d.mean,
        lambda d: d.variance,
        lambda d: d.entropy(),
        lambda d: d.velocity(value)["loc"],
        lambda d: d.velocity(value)["scale"],
    ):
        folded, rice = map(of, kinds)
        torch.testing.assert_close(of(both), torch.where(CENTRIC, folded, rice), rtol=1e-14, atol=1e-15)


def test_divergence_from_wilsons_prior_is_that_of_each_kind():
    q, prior = RiceWoolfson(LOC, 0.8, CENTRIC), RiceWoolfson(torch.zeros_like(LOC), 1.5, CENTRIC)
    centric = kl_divergence(FoldedNormal(LOC, 0.8), FoldedNormal(torch.zeros_like(LOC), 1.5))
    acentric = kl_divergence(Rice(LOC, 0.8), Rice(torch.zeros_like(LOC), 1.5))
    torch.testing.assert_close(kl_divergence(q, prior), torch.where(CENTRIC, centric, acentric))


def test_samples_at_loc_zero_follow_wilsons_statistics():
    """E|E|² is 1 for both kinds; ⟨|E|⟩² / ⟨|E|²⟩ is π/4 if acentric, 2/π if centric (Wilson, 1949)."""
    torch.manual_seed(0)
    centric = torch.tensor([True, False])
    scale = torch.tensor([1.0, math.sqrt(0.5)], dtype=torch.float64)
    value = RiceWoolfson(torch.zeros(2, dtype=torch.float64), scale, centric).sample((200_000,))
    squared = value.square().mean(0)
    torch.testing.assert_close(squared, torch.ones(2, dtype=torch.float64), rtol=0, atol=0.02)
    expected = torch.tensor([2 / math.pi, math.pi / 4], dtype=torch.float64)
    torch.testing.assert_close(value.mean(0).square() / squared, expected, rtol=0, atol=0.01)


def test_what_is_centric_broadcasts_and_is_kept_when_expanded():
    one = RiceWoolfson(torch.ones(3, 1), 1.0, torch.tensor([True, False]))
    assert one.batch_shape == (3, 2)
    assert torch.equal(one.expand((4, 3, 2)).centric, one.centric.expand(4, 3, 2))


def test_what_is_not_boolean_is_refused():
    with pytest.raises(InvalidTypeError, match="boolean"):
        RiceWoolfson(torch.ones(2), 1.0, torch.tensor([1, 0]))
