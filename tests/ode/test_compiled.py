"""`solve(compile=…)`: the same solution and gradients through compiled steps."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import Tensor, nn

from fingerpost.errors import InvalidTypeError, InvalidValueError
from fingerpost.ode import _compiled, solve

F64 = torch.float64
BACKEND = "aot_eager"  # graphs and their gradients as with inductor, without a minute of C++


class Field(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2)).double()

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.net(y) * torch.cos(t)


def start() -> Tensor:
    return torch.linspace(-1, 1, 6, dtype=F64).reshape(3, 2).requires_grad_()


@pytest.fixture(autouse=True)
def _fresh():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("gradient", ["checkpoint", "tape"])
@pytest.mark.parametrize("options", [{}, {"method": "rk4", "step_size": 0.2}], ids=["dopri5", "rk4"])
def test_compiled_steps_give_the_same_states_and_gradients(gradient: str, options: dict) -> None:
    field, times, found = Field(), [0.0, 0.3, 1.0], []
    for compile in (False, BACKEND):
        y0 = start()
        solution = solve(field, y0, times, gradient=gradient, compile=compile, **options)
        loss = solution.ys.pow(2).sum() + solution.at(0.77).sum()
        found.append([solution.ys, *torch.autograd.grad(loss, [y0, *field.parameters()]), solution.stats.nfe])
    for ours, theirs in zip(*found):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


def test_a_field_is_compiled_once_and_forgotten_with_it() -> None:
    field = Field()
    with torch.no_grad():
        for _ in range(3):
            solve(field, start().detach(), [0.0, 1.0], compile=BACKEND)
    assert len(_compiled._CACHE[field]) == 1
    gone = weakref.ref(field)
    torch.compiler.reset()
    del field
    gc.collect()
    assert gone() is None


def test_a_tensor_used_only_later_raises_in_compiled_steps_too() -> None:
    held = {"rate": torch.tensor(0.5, dtype=F64, requires_grad=True)}

    def late(t: Tensor, y: Tensor) -> Tensor:
        return -y * held["rate"] if t > 0.5 else -y

    loss = solve(late, start(), [0.0, 1.0], compile=BACKEND).ys.sum()
    with pytest.raises(InvalidValueError, match="gradient would be lost"):
        loss.backward()


BAD = [
    ({"compile": 1}, InvalidTypeError, "bool or a backend"),
    ({"compile": "inductr"}, InvalidValueError, "no backend"),
    ({"compile": BACKEND, "method": "kvaerno3"}, InvalidValueError, "explicit"),
    ({"compile": BACKEND, "gradient": "backsolve"}, InvalidValueError, "backsolve"),
    ({"compile": BACKEND, "per_sample": True}, InvalidValueError, "per_sample"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD)
def test_what_cannot_be_compiled_says_so(options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        solve(Field(), start(), [0.0, 1.0], **options)


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_compiled.shutil, "which", lambda name: None)
    with pytest.raises(InvalidValueError, match=r"C\+\+ compiler"):
        solve(Field(), start(), [0.0, 1.0], compile=True)
