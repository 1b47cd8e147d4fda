"""A memory's file: arrays and a description in JSON, in one archive that numpy reads without pickle."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fingerpost.errors import InvalidValueError
from fingerpost.neuroidal.graphs.base import AbstractGraph
from fingerpost.neuroidal.graphs.implicit import ImplicitGraph
from fingerpost.neuroidal.graphs.stored import StoredGraph

FORMAT = 1
Arrays = dict[str, NDArray[Any]]
_DAMAGE = (
    ValueError, KeyError, TypeError, IndexError, AttributeError, EOFError, OSError, RuntimeError, MemoryError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def write(path: Path, about: dict[str, Any], arrays: Arrays) -> None:
    """Writes all of it or nothing: beside the file, and then in its place."""
    written = json.dumps(about | {"format": FORMAT}).encode()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            contents: dict[str, Any] = arrays | {"about": np.frombuffer(written, np.uint8)}
            np.savez(file, **contents)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read(path: Path) -> tuple[dict[str, Any], Arrays]:
    """What `write` wrote; every byte is held against the archive's checksums.

    Raises:
      FileNotFoundError: If there is no such file.
      InvalidValueError: If it is damaged, or none of these.
    """
    with path.open("rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: np.asarray(archive[name]) for name in archive.files}
            about = json.loads(arrays.pop("about").tobytes())
            if about["format"] != FORMAT:
                raise ValueError(f"format {about['format']}")
        except _DAMAGE as error:
            raise damaged(path, error) from error
    return about, arrays


def damaged(path: Path, error: BaseException) -> InvalidValueError:
    """The error for a file whose content makes no sense."""
    return InvalidValueError(f"{path} is damaged, or no memory that Memory.save wrote: {error}")


def described(graph: AbstractGraph) -> dict[str, Any]:
    """What tells a graph from others: the parameters that it is drawn from, or a checksum of its edges."""
    if isinstance(graph, ImplicitGraph):
        return {"kind": "implicit", **graph.parameters}
    about: dict[str, Any] = {"kind": type(graph).__name__, "n": graph.n, "degree": graph.degree}
    if isinstance(graph, StoredGraph):
        about |= {"edges": int(graph.matrix.nnz), "checksum": _checksum(graph)}
    return about


def _checksum(graph: StoredGraph) -> int:
    found = 0
    for part in (graph.matrix.indptr, graph.matrix.indices):
        found = zlib.crc32(np.ascontiguousarray(part, np.int64).data, found)
    return found


def graph_of(path: Path, what: str, wanted: Any, given: AbstractGraph | None) -> AbstractGraph:
    """The graph that was given, if it is the one that a memory was made on; or the one that the file describes.

    Raises:
      InvalidValueError: If none is given and the file can't draw it, or another is given.
    """
    if not isinstance(wanted, dict) or "kind" not in wanted:
        raise damaged(path, ValueError(f"no {what}"))
    if given is None:
        if wanted["kind"] != "implicit":
            raise InvalidValueError(
                f"{path} was made on a graph that isn't drawn from a seed; give it: load(path, {what}=…)"
            )
        try:
            return ImplicitGraph(**{name: value for name, value in wanted.items() if name != "kind"})
        except (TypeError, ValueError) as error:
            raise damaged(path, error) from error
    if described(given) != wanted:
        raise InvalidValueError(f"{path} was made on another {what}: {wanted}; got {given!r}")
    return given
