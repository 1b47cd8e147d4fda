"""Which kernels draw the edges: compiled with numba where it is installed, or numpy."""

from __future__ import annotations

import importlib.util
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fingerpost._lazy import require_extra
from fingerpost.errors import InvalidValueError
from fingerpost.neuroidal._binomial import BlockLaw
from fingerpost.neuroidal._hash import Words


class Kernels(Protocol):
    """Edges of many rows in one block."""

    @staticmethod
    def scatter(keys: Words, salt: np.uint64, law: BlockLaw, out: NDArray[Any]) -> None:
        """Adds to `out`, shape (law.size,), how many of the rows have an edge to each position."""

    @staticmethod
    def edges(
        keys: Words, salt: np.uint64, law: BlockLaw, mask: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Indices of rows and positions, sorted; those of `mask` alone if given."""
        ...

    @staticmethod
    def csr_scatter(
        starts: NDArray[Any],
        columns: NDArray[Any],
        rows: NDArray[np.int64],
        begin: int,
        end: int,
        out: NDArray[Any],
    ) -> None:
        """Adds to `out` how many of the rows of a stored matrix have an entry in each column of begin, …, end − 1."""


def kernels_named(name: str) -> Any:
    """The module of kernels that "auto", "numba" or "numpy" asks for.

    Raises:
      InvalidValueError: For another name.
      MissingExtraError: If numba is asked for and isn't installed.
    """
    if name not in ("auto", "numba", "numpy"):
        raise InvalidValueError(f"kernels must be 'auto', 'numba' or 'numpy'; got {name!r}")
    if name == "numba":
        require_extra("numba", "neuroidal", "compiled kernels")
    if name == "numpy" or (name == "auto" and importlib.util.find_spec("numba") is None):
        from fingerpost.neuroidal import _kernels_numpy as chosen
    else:
        from fingerpost.neuroidal import _kernels_numba as chosen
    return chosen
