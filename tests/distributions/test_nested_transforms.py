"""Second derivatives of samples are one number, whichever of torch's modes takes the first and the second derivative."""

from __future__ import annotations

import pytest
import torch

from distributions.cases import CASES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_forward_over_forward_is_reverse_over_reverse(case):
    leaves = {key: x.detach() for key, x in case.tensors().items()}
    names, given = list(leaves), tuple(leaves.values())
    along = tuple(torch.full_like(x, 0.3) for x in given)

    def loss(*parameters):
        torch.manual_seed(5)
        value = case.of(dict(zip(names, parameters)), validate_args=False).rsample(torch.Size((4,)))
        return (value * value.detach().cos()).sin().sum()

    def slope(*parameters):
        return torch.func.jvp(loss, parameters, along)[1]

    def reverse(*parameters):
        gradients = torch.func.grad(loss, argnums=tuple(range(len(given))))(*parameters)
        return sum((g * t).sum() for g, t in zip(gradients, along))

    def over_forward(function):
        return torch.func.jvp(function, given, along)[1]

    def over_reverse(function):
        gradients = torch.func.grad(function, argnums=tuple(range(len(given))))(*given)
        return sum((g * t).sum() for g, t in zip(gradients, along))

    expected = over_reverse(reverse)
    for found in (over_forward(slope), over_forward(reverse), over_reverse(slope)):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
