"""The tangent kernel layer by layer equals one row of the Jacobian at a time, or names the layer that it can't take."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fingerpost.spectral import empirical_ntk, ntk_matvec
from fingerpost.spectral._rules.inputs import probe
from fingerpost.spectral._rules.plan import make_plan
from spectral.architectures import CASES, Case, built, by_rows

CLOSE = {"rtol": 1e-10, "atol": 1e-11}


def reduced(full: Tensor, reduce: str) -> Tensor:
    """What (n, n, o, o) becomes; "trace" is divided by the number of outputs."""
    diagonal = full.diagonal(dim1=2, dim2=3)
    return {"full": full, "diagonal": diagonal, "trace": diagonal.mean(2)}[reduce]


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request: pytest.FixtureRequest) -> Case:
    torch.manual_seed(0)
    return request.param


def test_equals_one_row_of_the_jacobian_at_a_time(case):
    x1, x2 = case.samples(5), case.samples(4)
    model = built(case, x1)
    own, cross = by_rows(model, x1, x1, 5, 5), by_rows(model, x1, x2, 5, 4)
    for reduce in ("full", "diagonal", "trace"):
        for chunk in (None, 2):
            torch.testing.assert_close(
                empirical_ntk(model, x1, reduce=reduce, chunk=chunk), reduced(own, reduce), **CLOSE
            )
            torch.testing.assert_close(
                empirical_ntk(model, x1, x2, reduce=reduce, chunk=chunk), reduced(cross, reduce), **CLOSE
            )


def test_torch_func_takes_only_what_no_rule_can(case):
    x = case.samples(5)
    assert set(make_plan(built(case, x), probe(x, x)).rest) == set(case.by_func)


def test_matvec_is_the_full_kernel_times_v(case):
    x = case.samples(4)
    model = built(case, x)
    theta = empirical_ntk(model, x, reduce="full")
    v = torch.randn(4, theta.shape[2], dtype=torch.float64)
    shape = (4,) if isinstance(model, nn.Sequential) and isinstance(model[-1], nn.Flatten) else v.shape
    expected = torch.einsum("nmab,mb->na", theta, v).view(shape)
    torch.testing.assert_close(ntk_matvec(model, x, v.view(shape)), expected, **CLOSE)
