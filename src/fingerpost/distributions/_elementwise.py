"""Functions of numbers as torch operations: computed in float64 on plain tensors, differentiable under every transform.

A kernel may choose between branches by looking at values, which `torch.vmap` forbids in ordinary code. Here the transforms are
peeled off first, so that a kernel always sees plain tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from fingerpost.distributions._function import signed
from fingerpost.distributions._quadrature import blockwise, flat

Kernel = Callable[..., tuple[Tensor, ...]]
"""Float64 tensors that broadcast against each other to float64 tensors of their common shape, by autograd's own operations."""

_BLOCK = 16384  # elements whose graph is held at a time: some kernels hold hundreds of numbers for each


class Elementwise:
    """A function of a few numbers to a few numbers, applied to tensors that broadcast.

    It works in float64 and gives back the dtype of its inputs. Its derivative is the kernel's own, by autograd, and is again
    elementwise; after `orders` derivatives the next one raises instead of being wrong.

    Args:
      kernel: The function; see `Kernel`.
      orders: How many times the result can be differentiated.
      what: What is differentiated, for the message of the derivative that is refused.
      finite: Whether numbers that the inputs' dtype cannot hold become its largest one instead of infinity.

    Example:
      >>> import torch
      >>> square = Elementwise(lambda x: (x * x,), what="the square")
      >>> torch.func.vmap(torch.func.grad(lambda x: square(x)[0]))(torch.tensor([1.0, 2.0]))
      tensor([2., 4.])
    """

    def __init__(
        self, kernel: Kernel, *, orders: int = 1, what: str = "this function", finite: bool = False
    ) -> None:
        self.kernel = kernel
        self.orders = orders
        self.what = what
        self.finite = finite
        self._derivatives: dict[tuple[bool, ...], Elementwise] = {}

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Returns the function's values, each of the inputs' common shape and dtype."""
        return _Apply.apply(self, *inputs)  # pyright: ignore[reportReturnType]

    def derivative(self, wanted: Sequence[bool]) -> Elementwise:
        """Returns ∂output_i/∂input_j for the wanted inputs j, as an elementwise function: outputs slowest.

        Raises:
          NotImplementedError: If no derivative is left; see `orders`.
        """
        key = tuple(wanted)
        if key not in self._derivatives:
            if self.orders < 1:
                raise NotImplementedError(
                    f"{self.what} has no derivative of this order here; take at most as many as its page "
                    "names, or draw samples without create_graph=True"
                )
            kernel = _jacobian(self.kernel, key, nested=self.orders > 1)
            self._derivatives[key] = Elementwise(
                kernel, orders=self.orders - 1, what=self.what, finite=self.finite
            )
        return self._derivatives[key]


def _jacobian(kernel: Kernel, wanted: tuple[bool, ...], nested: bool) -> Kernel:
    """∂output_i/∂input_j of a kernel by one backward pass for each output."""

    def jacobian(*inputs: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            full = [
                x if x.requires_grad else x.detach().clone().requires_grad_()
                for x in torch.broadcast_tensors(*inputs)
            ]
            leaves = [x for x, want in zip(full, wanted) if want]
            rows: list[Tensor] = []
            for output in kernel(*full):
                found = (
                    torch.autograd.grad(
                        output,
                        leaves,
                        torch.ones_like(output),
                        retain_graph=True,
                        create_graph=nested,
                        allow_unused=True,
                    )
                    if output.requires_grad
                    else [None] * len(leaves)
                )
                rows += [torch.zeros_like(output) if g is None else g for g in found]
        return tuple(rows if nested else (row.detach() for row in rows))

    def in_blocks(*inputs: Tensor) -> tuple[Tensor, ...]:
        shape, columns = flat(*inputs)
        return tuple(row.reshape(shape) for row in blockwise(jacobian, *columns, block=_BLOCK))

    return jacobian if nested else in_blocks


@signed
class _Apply(torch.autograd.Function):
    """One call of an elementwise function, as autograd and torch.func see it."""

    @staticmethod
    def forward(op: Elementwise, *inputs: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore
        dtype = common_dtype(inputs)
        # Detached: a value that depends on a parameter would otherwise pass its own derivative on to that parameter again,
        # and the graph of a kernel would outlive the call.
        plain = (x.detach().double() for x in inputs)
        outputs = tuple(output.detach() for output in op.kernel(*plain))
        if op.finite:
            largest = torch.finfo(dtype).max
            outputs = [output.clamp(-largest, largest) for output in outputs]
        return tuple(output.to(dtype) for output in outputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.op = inputs[0]
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        inputs, wanted = ctx.saved_tensors, ctx.needs_input_grad[1:]
        columns = iter(_products(ctx.op.derivative(wanted)(*inputs), grads))
        return None, *(sum_to(next(columns), x) if want else None for x, want in zip(inputs, wanted))

    @staticmethod
    def jvp(ctx: Any, _op: Any, *tangents: Tensor | None) -> Any:
        wanted = [tangent is not None for tangent in tangents]
        with forward_over_forward():
            moved = primals(tangent for tangent in tangents if tangent is not None)
            entries = ctx.op.derivative(wanted)(*primals(ctx.saved_tensors))
            rows = [entries[i : i + len(moved)] for i in range(0, len(entries), len(moved))]
            return tuple(sum(entry * t for entry, t in zip(row, moved)) for row in rows)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], op: Elementwise, *inputs: Tensor) -> Any:
        outputs = op(*aligned(in_dims[1:], inputs))
        return outputs, (0,) * len(outputs)


def forward_over_forward() -> Any:
    """A context for the body of a `jvp`, in which an outer forward-mode transform sees what is computed.

    torch runs a custom `jvp` with forward mode off, at every level. What is saved carries the tangents of this level; `primals`
    takes them away, and those of outer levels stay. Without both, forward mode over forward mode loses a term, silently.
    """
    return forward_ad._set_fwd_grad_enabled(True)


def primals(tensors: Iterable[Tensor]) -> list[Tensor]:
    """The tensors without tangents of the innermost level of forward mode."""
    return [forward_ad.unpack_dual(x).primal for x in tensors]


def common_dtype(tensors: Sequence[Tensor]) -> torch.dtype:
    """The dtype that the floating-point tensors promote to; a 0-dimensional one counts as much as any."""
    dtype = tensors[0].dtype
    for tensor in tensors[1:]:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype if dtype.is_floating_point else torch.get_default_dtype()


def sum_to(gradient: Tensor, like: Tensor) -> Tensor:
    """Sums a gradient over the dimensions along which `like` was broadcast."""
    return gradient.sum_to_size(like.shape).to(like.dtype)


def aligned(in_dims: Sequence[int | None], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Moves the mapped dimension of each input to the front, with ones after it, so that all still broadcast."""
    logical = [x.dim() - (dim is not None) for x, dim in zip(inputs, in_dims)]
    rank = max(logical)
    moved: list[Tensor] = []
    for x, dim, own in zip(inputs, in_dims, logical):
        if dim is None:
            moved.append(x)
        else:
            front = x.movedim(dim, 0)
            moved.append(front.reshape(front.shape[:1] + (1,) * (rank - own) + front.shape[1:]))
    return moved


def _products(entries: Sequence[Tensor], grads: Sequence[Tensor]) -> list[Tensor]:
    """Σ_i grad_i ∂output_i/∂input_j for each j."""
    count = len(entries) // len(grads)
    columns = [entries[j::count] for j in range(count)]
    return [sum((g * entry for g, entry in zip(grads, column)), torch.zeros(())) for column in columns]
