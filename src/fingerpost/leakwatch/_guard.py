"""The guard: reads the graph behind each in-place call."""

from __future__ import annotations

import functools
import os
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any, Literal, ParamSpec, TypeVar

import torch
from torch.overrides import TorchFunctionMode

from fingerpost.errors import InvalidTypeError, InvalidValueError
from fingerpost.leakwatch._aside import Aside
from fingerpost.leakwatch._calls import asked, in_place_calls, targets
from fingerpost.leakwatch._cures import cure
from fingerpost.leakwatch._functions import FunctionWatch
from fingerpost.leakwatch._graph import (
    Examined,
    Ring,
    bytes_behind,
    describe,
    require_readable_nodes,
    root,
    search,
    short_name,
)
from fingerpost.leakwatch._inner import hidden_storages, inner_ring
from fingerpost.leakwatch._places import user_place
from fingerpost.leakwatch._report import Leak, LeakError, LeakReport, LeakWarning

Mode = Literal["warn", "raise", "record"]
Call = tuple[Any, tuple[Any, ...], dict[str, Any]]
P = ParamSpec("P")
R = TypeVar("R")

_CORE: Any = torch._C
_CALLS = in_place_calls()
_BACKWARD = frozenset({torch.Tensor.backward, torch.autograd.backward, torch.autograd.grad})
_WATCHED = _CALLS | _BACKWARD
_is_traced = torch.compiler.is_dynamo_compiling
_is_tracked = torch.is_grad_enabled


class LeakGuard(TorchFunctionMode):
    """Finds the line whose in-place operation makes a graph hold itself, which keeps its memory for ever.

    In ``x /= x.norm()`` the node of the norm holds x, and the division makes x the output of a node whose edges lead to
    the node of the norm: x → Div → Norm → x. All are C++ references, so that neither leaving the function nor Python's
    collector frees them. After each in-place call the guard reads the graph behind the tensor that changed, and reports
    a ring only if it finds the tensor itself in it.

    It watches the thread that entered it. It reads nothing under ``no_grad``, in a forked child, in code that
    torch.compile or torch.jit compiled, and in hooks that a backward pass runs.

    Args:
      mode: ``"warn"`` warns once a line, ``"raise"`` raises after the call, ``"record"`` only fills `report`.

    Attributes:
      report: The `LeakReport` so far.

    Raises:
      InvalidValueError: If there is no such mode, or if torch does not show what a node holds.

    >>> import torch
    >>> weight = torch.ones(3, 3, requires_grad=True)
    >>> with LeakGuard("record") as guard:
    ...     x = torch.ones(2, 3) @ weight
    ...     x /= x.norm(dim=-1, keepdim=True)
    >>> [leak] = guard.report.leaks
    >>> leak.ring
    ('x', 'DivBackward0', 'LinalgVectorNormBackward0', 'x')
    >>> leak.cure
    'x = x / x.norm(dim=-1, keepdim=True)'
    """

    def __init__(self, mode: Mode = "warn") -> None:
        super().__init__()
        if mode not in ("warn", "raise", "record"):
            raise InvalidValueError(f"mode is {mode!r}; expected 'warn', 'raise' or 'record'")
        require_readable_nodes()
        self.mode: Mode = mode
        self.report = LeakReport()
        self._births: dict[int, tuple[weakref.ref[torch.Tensor], int, int]] = {}
        self._examined = Examined()
        self._functions = FunctionWatch()
        self._found: dict[tuple[str, int, str], Leak] = {}
        self._aside = Aside()
        self._process = os.getpid()
        self._entered = threading.local()

    def __enter__(self) -> LeakGuard:
        depth = getattr(self._entered, "depth", 0)
        self._entered.depth = depth + 1
        if depth == 0:
            self._functions.start()
            self._aside.start()
            super().__enter__()
        return self

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        self._entered.depth -= 1
        if self._entered.depth > 0:
            return
        super().__exit__(exc_type, exc_val, exc_tb)
        if os.getpid() == self._process:
            self._look_back(quiet=exc_type is not None)

    def check(self) -> LeakReport:
        """Looks for what only shows in memory (custom Functions that keep their outputs), as leaving the guard does.

        Returns:
          The report so far.
        """
        self._look_back(quiet=False)
        return self.report

    def _look_back(self, quiet: bool) -> None:
        self.report.notes += [note for note in self._aside.notes() if note not in self.report.notes]
        for leak in self._tried(lambda: list(self._functions.scan_memory())) or ():
            self._report(leak, quiet)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """The guard as a decorator: `function` runs under it."""
        if not callable(function):
            raise InvalidTypeError(f"LeakGuard decorates a function, got {type(function).__name__}")

        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                return function(*args, **kwargs)

        return guarded

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # Nearly every call ends here, and pays for each word. A compiler that traces this must not meet the look-up.
        if _is_traced() or func not in _WATCHED:
            return func(*args, **kwargs) if kwargs else func(*args)
        return self._watch(func, args, kwargs or {})

    def _watch(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not _is_tracked() or not asked(func, args, kwargs) or os.getpid() != self._process:
            return func(*args, **kwargs)
        if func in _BACKWARD:
            if self._functions.any_suspects():
                self._look_ahead(args[0] if args else next(iter(kwargs.values()), None))
            return func(*args, **kwargs)
        owners = _owners(targets(args, kwargs))
        before = [owner.grad_fn for owner in owners]
        result = func(*args, **kwargs)
        for owner, old in zip(owners, before):
            fresh = owner.grad_fn
            if fresh is not None and fresh is not old:
                self.report.calls += 1
                leak = self._tried(lambda: self._leak((func, args, kwargs), owner, old))  # noqa: B023
                if leak is not None:
                    self._report(leak)
        return result

    def _look_ahead(self, start: Any) -> None:
        for leak in self._tried(lambda: list(self._functions.scan_graph(start))) or ():
            self._report(leak)

    def _tried(self, examine: Callable[[], R]) -> R | None:
        """What `examine` finds; a fault of the guard's own is noted and never ends the user's program."""
        try:
            return examine()
        except Exception as error:
            self._aside.failed(error)
            return None

    def _ring(self, owner: torch.Tensor, old: Any, fresh: Any) -> Ring | None:
        """Reads what the call has put behind the tensor; what was behind it already has been read."""
        key, born, verified = id(owner), -1 if old is None else old._sequence_nr(), -1
        if key in self._births and self._births[key][0]() is owner:
            reference, born, verified = self._births[key]
        else:
            reference = weakref.ref(owner, functools.partial(_drop, self._births, key))
        if born < 0:
            ring = self._examined.search(owner, fresh, verified)
        else:
            ring = search(owner, fresh, born, verified)
        self._births[key] = (reference, born, fresh._sequence_nr())
        return ring

    def _leak(self, call: Call, owner: torch.Tensor, old: Any) -> Leak | None:
        node = owner.grad_fn
        ring = self._ring(owner, old, node) or inner_ring(*call, owner, node)
        if ring is None:
            return None
        place = user_place()
        known = self._found.get((place.file, place.line, "in-place"))
        if known is not None:
            return known
        name, (func, args, _) = ("" if place.compiled else place.target) or "tensor", call
        last = f"a view of {name}" if ring.through_view else name
        names = [short_name(step) for step in ring.nodes]
        if ring.inner:
            names[-1] = f"{names[-1]} ({ring.inner})"
        return Leak(
            file=place.file,
            line=place.line,
            function=place.function,
            source=place.text,
            operation=_name(func),
            tensor=describe(owner),
            ring=(name, *names, last),
            nbytes=bytes_behind(node, owner, hidden_storages(*call, owner, node)),
            cure=cure(place, func, view=bool(args) and args[0] is not owner),
        )

    def _report(self, leak: Leak, quiet: bool = False) -> None:
        key = (leak.file, leak.line, leak.kind)
        if self._found.get(key) is leak:
            leak.count += 1
        elif key not in self._found:
            self._found[key] = leak
            self.report.leaks.append(leak)
            if self.mode == "warn":
                warnings.warn_explicit(str(leak), LeakWarning, leak.file, leak.line)
        if self.mode == "raise" and not quiet:
            raise LeakError(leak)


def _drop(births: dict[int, Any], key: int, reference: Any) -> None:
    if key in births and births[key][0] is reference:
        del births[key]


def _owners(changed: list[torch.Tensor]) -> list[torch.Tensor]:
    """The tensors whose graphs change, each once; wrappers of function transforms have graphs of their own."""
    unique = {id(owner): owner for owner in map(root, changed)}
    return [owner for owner in unique.values() if not _CORE._functorch.is_functorch_wrapped_tensor(owner)]


def _name(func: Any) -> str:
    return getattr(func, "__name__", str(func))
