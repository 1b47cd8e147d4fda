"""Random streams that depend on seeds alone, and a room in which the global ones may be used freely.

Everything here derives its seed by hashing names and numbers, so that streams of different stages, seeds and
steps do not overlap and do not depend on what ran before.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import sys
from collections.abc import Iterator
from typing import Any


def derive_seed(*parts: int | str) -> int:
    """Returns a 63-bit seed that depends on `parts` alone (SHA-256 of them).

    Example:
      >>> derive_seed(0, "train") == derive_seed(0, "train") != derive_seed(1, "train")
      True
    """
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def get_states() -> dict[str, Any]:
    """Returns the states of the global generators of Python, NumPy and torch (CPU, CUDA), where loaded."""
    states: dict[str, Any] = {"python": random.getstate()}
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None:
        name, keys, position, has_gauss, gauss = numpy.random.get_state()
        states["numpy"] = (name, keys.tolist(), int(position), int(has_gauss), float(gauss))
    if torch is not None:
        states["torch"] = torch.get_rng_state()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            states["cuda"] = list(torch.cuda.get_rng_state_all())
    return states


def set_states(states: dict[str, Any]) -> None:
    """Sets the global generators to what `get_states` returned."""
    random.setstate(states["python"])
    if "numpy" in states:
        name, keys, position, has_gauss, gauss = states["numpy"]
        array = sys.modules["numpy"].asarray(keys, dtype="uint32")
        sys.modules["numpy"].random.set_state((name, array, position, has_gauss, gauss))
    if "torch" in states:
        torch = sys.modules["torch"]
        torch.set_rng_state(states["torch"].cpu())
        if "cuda" in states:
            torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])


@contextlib.contextmanager
def isolated_rng(*parts: int | str) -> Iterator[None]:
    """Seeds the global generators from `parts` inside the block, and gives them back as they were.

    Code inside may draw from Python's, NumPy's or torch's global generators (initial weights, dropout) and
    stays reproducible; code outside sees no trace. Only generators of modules already loaded are touched.
    """
    before = get_states()
    seed = derive_seed(*parts)
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)
    try:
        yield
    finally:
        set_states(before)
