"""For any shapes and structures: the exact gradient is EXACT, its negative a sign fault, and −2 times it as well."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.subjects import normal, quartic  # isort: skip
from fingerpost.audit import audit

SHAPES = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3), min_size=1, max_size=3)
ROWS = 20


def loss_of(point):
    return sum(quartic(leaf.reshape(ROWS, -1)) for leaf in torch.utils._pytree.tree_leaves(point))


def times(factor):
    def signal(point):
        leaves, spec = torch.utils._pytree.tree_flatten(point)
        found = torch.autograd.grad(loss_of(point).sum(), leaves)
        return torch.utils._pytree.tree_unflatten([factor * g for g in found], spec)

    return signal


@settings(max_examples=15, deadline=None, derandomize=True)
@given(shapes=SHAPES, kind=st.sampled_from(["list", "tuple", "dict", "nested"]), seed=st.integers(0, 1000))
def test_exact_is_exact_and_minus_it_is_a_sign_fault(shapes, kind, seed):
    leaves = [normal(ROWS, *shape, seed=seed + i) for i, shape in enumerate(shapes)]
    point = {
        "list": leaves,
        "tuple": tuple(leaves),
        "dict": {f"leaf {i}": leaf for i, leaf in enumerate(leaves)},
        "nested": {"a": leaves, "b": (normal(ROWS, 2, seed=seed),)},
    }[kind]
    assert audit(times(1), loss_of, point, cost=False, perturbations=2).verdict.name == "EXACT"
    for factor in (-1, -2):
        faults = audit(times(factor), loss_of, point, cost=False, quick=True).faults
        assert faults
        assert all(fault.name.startswith("sign") for fault in faults)
