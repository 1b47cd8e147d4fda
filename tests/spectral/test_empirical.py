"""The tangent kernel layer by layer equals one row of the Jacobian at a time, or names the layer that it can't take."""

from __future__ import annotations

import contextlib
import copy
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.spectral import CoordinateMLP, empirical_ntk, ntk_matvec
from fingerpost.spectral._rules import kernel, terms
from fingerpost.spectral._rules.inputs import probe
from fingerpost.spectral._rules.plan import make_plan
from spectral.architectures import CASES, Case, built, by_rows, mlp, plain

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


def test_small_blocks_change_nothing(case, monkeypatch):
    x1, x2 = case.samples(5), case.samples(4)
    model = built(case, x1)
    own, cross = by_rows(model, x1, x1, 5, 5), by_rows(model, x1, x2, 5, 4)
    monkeypatch.setattr(kernel, "ROWS", 2)
    for budget in (1, 300, 2000):
        monkeypatch.setattr(terms, "BUDGET", budget)
        for reduce in ("full", "diagonal", "trace"):
            torch.testing.assert_close(empirical_ntk(model, x1, reduce=reduce), reduced(own, reduce), **CLOSE)
            found = empirical_ntk(model, x1, x2, reduce=reduce)
            torch.testing.assert_close(found, reduced(cross, reduce), **CLOSE)


@pytest.mark.parametrize("gradients", [False, True])
def test_pairs_of_positions_and_gradients_are_one(case, gradients, monkeypatch):
    x = case.samples(5)
    model = built(case, x)
    monkeypatch.setattr(terms.AbstractFactored, "_gradients_cost_less", lambda *_: gradients)
    expected = by_rows(model, x, x, 5, 5)
    for reduce in ("full", "diagonal", "trace"):
        torch.testing.assert_close(empirical_ntk(model, x, reduce=reduce), reduced(expected, reduce), **CLOSE)


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


def test_own_kernel_is_symmetric_to_the_bit_and_positive():
    model, x = mlp().double(), plain(300)  # more rows than a block
    theta = empirical_ntk(model, x)
    assert torch.equal(theta, theta.T)
    assert torch.linalg.eigvalsh(theta)[0] > -1e-10 * theta.trace()
    full = empirical_ntk(model, x[:150], reduce="full")
    assert torch.equal(full, full.permute(1, 0, 3, 2))


def test_large_kernel_in_blocks_equals_pairs_of_rows():
    torch.manual_seed(0)
    model, x = mlp().double(), plain(300)
    theta, which = empirical_ntk(model, x, reduce="full"), [0, 127, 128, 299]
    few = torch.stack([x[i] for i in which])
    torch.testing.assert_close(theta[which][:, which], by_rows(model, few, few, 4, 4), **CLOSE)


def test_many_positions_either_way_equals_one_row_at_a_time():
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Linear(40, 50), nn.Tanh(), nn.Linear(50, 1), nn.Flatten()).double()
    few, many = torch.randn(3, 2, 40).double(), torch.randn(6, 90, 40).double()
    for x in (few, many):  # pairs of positions, then gradients
        expected = by_rows(wide, x, x, len(x), len(x))
        torch.testing.assert_close(empirical_ntk(wide, x, reduce="full"), expected, **CLOSE)


def test_float32_is_within_rounding_of_float64():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 1))
    x = torch.randn(200, 8)
    theta = empirical_ntk(model, x)
    assert theta.dtype == torch.float32
    exact = empirical_ntk(copy.deepcopy(model).double(), x.double())
    assert (theta - exact).abs().max() <= 2e-6 * exact.abs().max()


def test_one_sample_and_one_parameter():
    model = nn.Linear(1, 1, bias=False).double()
    x = torch.tensor([[3.0]], dtype=torch.float64)
    torch.testing.assert_close(empirical_ntk(model, x), torch.tensor([[9.0]], dtype=torch.float64))


def test_output_that_ignores_its_parameters_has_a_zero_kernel():
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            self.layer(x)
            return 2 * x[:, :2]

    assert torch.equal(empirical_ntk(Constant(), torch.randn(3, 4)), torch.zeros(3, 3))


def test_runs_under_no_grad_and_inference_mode_and_leaves_no_graph():
    torch.manual_seed(0)
    model, x = mlp().double(), plain(3).requires_grad_()
    expected = empirical_ntk(model, x)
    with torch.no_grad():
        assert torch.equal(empirical_ntk(model, x), expected)
    with torch.inference_mode():
        assert torch.equal(empirical_ntk(model, x * 1), expected)
    assert not expected.requires_grad
    assert x.grad is None


class Stateful(nn.Module):
    """Counts its calls in a buffer and draws a random number."""

    def __init__(self, fail: bool) -> None:
        super().__init__()
        self.layer, self.fail = nn.Linear(4, 2), fail
        self.register_buffer("calls", torch.zeros(()))
        self.calls: Tensor

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        torch.rand(())
        if self.fail and self.calls > 1:
            raise RuntimeError("second call")
        return self.layer(x)


@pytest.mark.parametrize("fail", [False, True])
def test_model_gradients_buffers_hooks_mode_and_random_state_are_as_before(fail):
    model, x = Stateful(fail), torch.randn(3, 4)
    model.train().layer.eval()
    model.layer.weight.grad = torch.ones(2, 4)
    model.layer.register_forward_hook(lambda *_: None)
    before, buffer, random = copy.deepcopy(model.state_dict()), model.calls, torch.get_rng_state()
    for function in (lambda: empirical_ntk(model, x), lambda: ntk_matvec(model, x, torch.ones(3, 2))):
        with contextlib.suppress(RuntimeError):
            function()
        assert model.calls is buffer
        assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
        assert torch.equal(random, torch.get_rng_state())
        assert torch.equal(model.layer.weight.grad, torch.ones(2, 4))
        assert model.layer.bias.grad is None
        assert len(model.layer._forward_hooks) == 1
        assert (model.training, model.layer.training) == (True, False)


class Mean(nn.Module):
    """Subtracts the batch's mean, seen by the graph or not."""

    def __init__(self, detach: bool) -> None:
        super().__init__()
        self.detach = detach

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(0)
        return x - (mean.detach() if self.detach else mean)


class Roll(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + x.roll(1, 0)


class Noise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5)


class Functional(nn.Module):
    """Mixes samples outside any layer but itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.softmax(self.layer(x), 0)


REFUSED: dict[str, tuple[nn.Module, str]] = {
    "BatchNorm in training mode": (
        nn.BatchNorm1d(4),
        r"layer '1' \(BatchNorm1d\) normalises by the batch in training",
    ),
    "BatchNorm without statistics": (
        nn.BatchNorm1d(4, track_running_stats=False).eval(),
        r"layer '1' \(BatchNorm1d\) has no running statistics",
    ),
    "dropout in training mode": (nn.Dropout(0.5), r"layer '1' \(Dropout\) is random in training mode"),
    "random leaky ReLU": (nn.RReLU(), r"layer '1' \(RReLU\) is random"),
    "functional dropout": (Noise(), r"layer '1' \(Noise\) is random"),
    "batch mean": (Mean(False), r"layer '1' \(Mean\) mixes samples"),
    "batch mean without its graph": (Mean(True), r"layer '1' \(Mean\) mixes samples"),
    "neighbours in the batch": (Roll(), r"layer '1' \(Roll\) mixes samples"),
}


@pytest.mark.parametrize(("layer", "message"), REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("n", [2, 7])
def test_layer_that_mixes_samples_or_is_random_is_refused_by_name(layer, message, n):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), layer, nn.Linear(4, 2)).double()
    with pytest.raises(InvalidValueError, match=message):
        empirical_ntk(model, plain(n))


def test_mixing_outside_of_layers_is_refused():
    with pytest.raises(InvalidValueError, match="mixes samples, or is random, outside its layers"):
        empirical_ntk(Functional().double(), plain(4))


def test_number_that_is_not_finite_is_named():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    x = plain(4)
    x[0, 0] = torch.nan
    with pytest.raises(InvalidValueError, match=r"layer '0' \(Linear\) returned numbers that are not finite"):
        empirical_ntk(model, x)


def test_max_norm_embedding_is_refused_before_it_writes():
    model = nn.Sequential(nn.Embedding(5, 3, max_norm=0.1), nn.Flatten(), nn.Linear(6, 1))
    before = model[0].weight.clone()
    with pytest.raises(InvalidValueError, match=r"layer '0' \(Embedding\) writes to its weight"):
        empirical_ntk(model, torch.randint(0, 5, (3, 2)))
    assert torch.equal(before, model[0].weight)


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "reduce": ({"reduce": "tracee"}, InvalidValueError, "reduce is 'tracee'.*did you mean 'trace'"),
    "chunk of zero": ({"chunk": 0}, InvalidValueError, "chunk is 0"),
    "chunk that is no integer": ({"chunk": 2.5}, InvalidTypeError, "chunk is 2.5"),
    "model": ({"model": lambda x: x}, InvalidTypeError, "model is function"),
    "nothing to differentiate by": (
        {"model": nn.ReLU()},
        InvalidValueError,
        "no parameter that requires gradients",
    ),
    "no tensor": ({"x1": "words"}, InvalidTypeError, "x1 holds no tensor, but is str"),
    "no sample": ({"x1": torch.zeros(0, 4)}, ShapeError, r"x1 holds no sample: shape \(0, 4\)"),
    "scalar": ({"x2": torch.zeros(())}, ShapeError, r"the tensors of x2 need one sample a row.*\(\)"),
    "counts": ({"x1": (torch.zeros(2, 4), torch.zeros(3, 4))}, ShapeError, r"\(2, 4\), \(3, 4\)"),
    "forms": ({"x2": torch.zeros(3, 5)}, ShapeError, r"a sample of x1 has \(4,\), of x2 \(5,\)"),
    "output of three dimensions": (
        {"x1": torch.zeros(2, 3, 4)},
        ShapeError,
        r"returned shape \(3, 3, 3\) for 3 samples",
    ),
    "output that is no tensor": ({"model": nn.LSTM(4, 2)}, InvalidTypeError, "the model returned tuple"),
}


@pytest.mark.parametrize(("given", "error", "message"), BAD.values(), ids=BAD.keys())
def test_bad_call_says_what_came_and_what_to_do(given, error, message):
    call = {"model": mlp(), "x1": torch.randn(3, 4), **given}
    with pytest.raises(error, match=message):
        empirical_ntk(call.pop("model"), call.pop("x1"), **call)


def test_matvec_refuses_a_vector_of_another_shape():
    with pytest.raises(ShapeError, match=r"v has shape \(3,\); expected the output's, \(3, 3\)"):
        ntk_matvec(mlp(), torch.randn(3, 4), torch.randn(3))


def test_ntk_parametrization_goes_by_rule():
    model = CoordinateMLP(2, 3, width=16, depth=2, parametrization="ntk", bias_std=0.3).double()
    x = torch.rand(5, 2, dtype=torch.float64)
    assert not make_plan(model, probe(x, x)).rest
    torch.testing.assert_close(empirical_ntk(model, x, reduce="full"), by_rows(model, x, x, 5, 5), **CLOSE)


def test_kernel_is_the_same_to_the_bit_in_another_process():
    code = (
        "import torch; from fingerpost.spectral import CoordinateMLP, empirical_ntk;"
        "model = CoordinateMLP(2, 1, 64, 3, generator=torch.Generator().manual_seed(0));"
        "x = torch.rand(9, 2, generator=torch.Generator().manual_seed(0));"
        "print(empirical_ntk(model, x).double().flatten().tolist())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(found) == 1
