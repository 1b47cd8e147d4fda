"""The processes of one run: what torchrun says of them, and the few words that they exchange.

A process that torchrun did not start is alone, and nothing here does anything then. Otherwise rank 0 writes, and
all ranks carry out the same calls in the same order. Each exchange names its place, so that ranks which have parted
(one failed, and its error was caught) find it out instead of waiting for each other.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from fingerpost.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_PR_SET_PDEATHSIG = 1


class Ranks:
    """This process among `size`; `Ranks(0, 1)` is alone."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank = rank
        self.size = size
        self._joined = False

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.size == 1

    def first(self, place: str, function: Callable[[], T]) -> T:
        """Rank 0 calls `function`; all get its result, or raise its error."""
        if self.alone:
            return function()
        result = self.together(place, function if self.rank == 0 else lambda: None)
        box = [result if self.rank == 0 else None]
        with self._exchange(place) as dist:
            dist.broadcast_object_list(box, src=0)
        return result if self.rank == 0 else box[0]  # pyright: ignore[reportReturnType]

    def together(self, place: str, function: Callable[[], T]) -> T:
        """Every rank calls `function` and gets its own result; where one of them fails, all raise."""
        return function() if self.alone else self.gather(place, function)[0]

    def gather(
        self, place: str, function: Callable[[], T], tell: Callable[[T], Any] = lambda result: None
    ) -> tuple[T, list[Any]]:
        """Every rank calls `function`; returns its own result, and what each rank tells of its own.

        Raises:
          Exception: Where a rank failed: its own error, else the error of the first that did.
          RunError: If the ranks are at different places, or one is gone.
        """
        result, told, error = None, None, None
        try:
            result = function()
            told = tell(result)
        except Exception as caught:
            error = caught
        heard: list[Any] = [None] * self.size
        with self._exchange(place) as dist:
            dist.all_gather_object(heard, (place, _portable(error), told))
        if error is not None:
            raise error
        self._check(place, heard)
        return result, [told for _, _, told in heard]  # pyright: ignore[reportReturnType]

    def _check(self, place: str, heard: Sequence[tuple[str, Exception | None, Any]]) -> None:
        for rank, (there, error, _) in enumerate(heard):
            if there != place:
                why = f": {type(error).__name__}: {error}" if error is not None else ""
                raise RunError(
                    f"process {rank} of {self.size} is at {there!r}, and process {self.rank} at {place!r}{why}; all "
                    "must make the same calls in the same order"
                )
            if error is not None:
                raise error

    def sum_(self, tensors: Sequence[Tensor], place: str) -> None:
        """Replaces each tensor by its sum over the ranks, in one exchange per dtype and device."""
        self._flat(tensors, place, lambda dist, flat: dist.all_reduce(flat))

    def copy_(self, tensors: Sequence[Tensor], place: str) -> None:
        """Replaces each tensor by that of rank 0, in one exchange per dtype and device."""
        self._flat(tensors, place, lambda dist, flat: dist.broadcast(flat, src=0))

    def _flat(self, tensors: Sequence[Tensor], place: str, exchange: Callable[[Any, Tensor], Any]) -> None:
        import torch

        kinds: dict[Any, list[Tensor]] = {}
        for tensor in tensors:
            kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor.detach())
        for (dtype, _), group in kinds.items():
            flat = torch.cat([tensor.reshape(-1) for tensor in group])
            seen = torch.view_as_real(flat) if dtype.is_complex else flat
            with self._exchange(place) as dist:
                exchange(dist, seen.view(torch.uint8) if dtype == torch.bool else seen)
            for tensor, part in zip(group, flat.split([tensor.numel() for tensor in group])):
                tensor.copy_(part.view(tensor.shape))

    @contextlib.contextmanager
    def _exchange(self, place: str) -> Iterator[Any]:
        dist = self._join()
        try:
            yield dist
        except RuntimeError as error:  # a peer is gone, or did not come in time
            raise RunError(
                f"process {self.rank} of {self.size} lost another one at {place!r}: see what that one says ({error})"
            ) from error

    def _join(self) -> Any:
        import torch
        import torch.distributed as dist

        if not self._joined and not dist.is_initialized():
            dist.init_process_group(_backend(torch, dist))
            atexit.register(_leave)
        self._joined = True
        return dist


def _backend(torch: Any, dist: Any) -> str:
    """Chooses gloo, with NCCL for tensors on GPUs where each process of this machine has one of its own."""
    local, rank = (int(os.environ.get(name, 0)) for name in ("LOCAL_WORLD_SIZE", "LOCAL_RANK"))
    if not torch.cuda.is_available() or torch.cuda.device_count() < max(local, 1):
        return "gloo"
    torch.cuda.set_device(rank)
    return "cpu:gloo,cuda:nccl" if dist.is_nccl_available() else "gloo"


def _leave() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()


def _portable(error: Exception | None) -> Exception | None:
    """What another process can read: the error itself, or a RunError with its words."""
    if error is None:
        return None
    try:
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    except Exception:  # pickling calls the error's own code
        pass
    return RunError(f"{type(error).__name__}: {error}")


@lru_cache(maxsize=1)
def here() -> Ranks:
    """Returns this process among those that torchrun started, as its environment says; it imports no torch.

    On Linux a process among several dies with the agent that started it.

    Raises:
      RunError: If the environment makes no sense.
    """
    told = [os.environ.get(name, "") for name in _VARIABLES]
    if not all(told):
        return Ranks(0, 1)
    try:
        rank, size = int(told[0]), int(told[1])
    except ValueError:
        rank, size = -1, -1
    if not 0 <= rank < size:
        raise RunError(
            f"the environment has RANK={told[0]} and WORLD_SIZE={told[1]}; torchrun sets 0 ≤ RANK < WORLD_SIZE"
        )
    if size > 1 and sys.platform == "linux":
        die_with_parent()
    return Ranks(rank, size)


def die_with_parent() -> None:
    """Asks Linux to kill this process when its parent dies (``prctl(2)``, PR_SET_PDEATHSIG); the run can be resumed."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before it was asked
        os.kill(os.getpid(), signal.SIGKILL)
