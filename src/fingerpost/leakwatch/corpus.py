"""Forms that keep memory for ever, forms that look like them and do not, and what cures each of the first.

Every form is one pass over a `Bench`. The line that leaks is marked ``# leaks``, the line of its cure ``# cure``. The
experiment ``inplace-leak``, the tests and the benchmark take their forms from here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fingerpost.leakwatch import harmless
from fingerpost.leakwatch._bench import Bench


@dataclass(frozen=True)
class Form:
    """One way to write an operation.

    Args:
      name: What stands in tables.
      step: One pass; what it returns stands at the end of its graph.
      cure: The same values without the leak, for forms that leak.
      leaks: Whether it keeps memory for ever.
      homes: Where the marked lines of the form and of its cure stand, if not in the passes themselves.
    """

    name: str
    step: Callable[[Bench], Any]
    cure: Callable[[Bench], Any] | None = None
    leaks: bool = False
    homes: tuple[Any, Any] | None = None

    def line(self, mark: str = "leaks") -> int:
        """The number of the marked line, in the file of the form."""
        home: Any = (self.homes or (self.step, self.cure))[mark == "cure"]
        lines, first = inspect.getsourcelines(home)
        return next(first + index for index, text in enumerate(lines) if text.rstrip().endswith(f"# {mark}"))


def norm(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    x /= torch.norm(x, dim=-1, keepdim=True)  # leaks
    return x


def norm_cured(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    x = x / torch.norm(x, dim=-1, keepdim=True)  # cure
    return x


def square(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    x *= x  # leaks
    return x


def square_cured(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    x = x * x  # cure
    return x


def add_square(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    x += x**2  # leaks
    return x


def add_square_cured(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    x = x + x**2  # cure
    return x


def column(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    x[:, 0] = x[:, 1] ** 2  # leaks
    return x


def column_cured(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    x[:, 0] = x[:, 1].clone() ** 2  # cure
    return x


def sliced(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    x[:, :2] *= x[:, 2:4]  # leaks
    return x


def sliced_cured(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    x[:, :2] *= x[:, 2:4].clone()  # cure
    return x


def residual(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    x.add_(F.gelu(x) @ bench.weight)  # leaks
    return x


def residual_cured(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    x = x.add(F.gelu(x) @ bench.weight)  # cure
    return x


def earlier(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    total = x.logsumexp(-1, keepdim=True)
    shifted = total + 1
    x += 2
    x -= shifted  # leaks
    return x


def earlier_cured(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    total = x.logsumexp(-1, keepdim=True)
    shifted = total + 1
    x = x + 2
    x = x - shifted  # cure
    return x


def through_view(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    flat = x.view(-1)
    flat *= x.sin().view(-1)  # leaks
    return flat


def through_view_cured(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    flat = x.view(-1)
    flat = flat * x.sin().view(-1)  # cure
    return flat


def buffer(bench: Bench) -> Tensor:
    total = torch.ones_like(bench.data)
    gate = bench.linear(bench.data) * total
    total += gate  # leaks
    return total


def buffer_cured(bench: Bench) -> Tensor:
    total = torch.ones_like(bench.data)
    gate = bench.linear(bench.data) * total
    total = total + gate  # cure
    return total


class _KeepsBoth(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        sine, cosine = x.sin(), x.cos()
        ctx.pair = sine, cosine  # leaks
        return sine, cosine

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        sine, cosine = ctx.pair
        return gradients[0] * cosine - gradients[1] * sine


class _SavesBoth(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        sine, cosine = x.sin(), x.cos()
        ctx.save_for_backward(sine, cosine)  # cure
        return sine, cosine

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        sine, cosine = ctx.saved_tensors
        return gradients[0] * cosine - gradients[1] * sine


def on_ctx(bench: Bench) -> Tensor:
    sine, cosine = _KeepsBoth.apply(bench.linear(bench.data))  # type: ignore[misc]
    return sine * cosine


def on_ctx_cured(bench: Bench) -> Tensor:
    sine, cosine = _SavesBoth.apply(bench.linear(bench.data))  # type: ignore[misc]
    return sine * cosine


LEAKING = (
    Form("x /= norm(x)", norm, norm_cured, True),
    Form("x *= x", square, square_cured, True),
    Form("x += x**2", add_square, add_square_cured, True),
    Form("x[:, 0] = x[:, 1]**2", column, column_cured, True),
    Form("x[:, :2] *= x[:, 2:4]", sliced, sliced_cured, True),
    Form("x.add_(gelu(x) @ W)", residual, residual_cured, True),
    Form("x -= what an earlier line made of x", earlier, earlier_cured, True),
    Form("a view of x *= sin(x)", through_view, through_view_cured, True),
    Form("buffer += W(data) * buffer", buffer, buffer_cured, True),
    Form("ctx.pair = both outputs", on_ctx, on_ctx_cured, True, (_KeepsBoth, _SavesBoth)),
)
HARMLESS = tuple(Form(name, step) for name, step in harmless.STEPS.items())
FORMS = {form.name: form for form in (*LEAKING, *HARMLESS)}

__all__ = ["FORMS", "HARMLESS", "LEAKING", "Bench", "Form"]
