"""Files that survive a kill: atomic replacement, appended lines with a torn end, checksums.

A write goes to a temporary file in the same folder, is forced to disk, and replaces the old file in one step
(POSIX ``rename``); then the folder itself is forced to disk. Whatever happens in between (a kill, a full
disk), the name holds either the whole old content or the whole new one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fingerpost.errors import RunError

TEMPORARY_PREFIX = ".writing-"


@contextlib.contextmanager
def naming_the_path(path: Path) -> Iterator[None]:
    """Turns the system's refusal inside the block into a RunError that names `path`."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{path} could not be written: {error}") from error


def sync_folder(folder: Path) -> None:
    """Forces a folder's own entries (names, replacements) to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.fsync(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes `content` to `path` atomically; the folder is made when it is missing.

    Raises:
      RunError: If the system refuses (disk full, no permission); it names `path`, whose old content is
        intact.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            _write_all(descriptor, content)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
        temporary = None
        sync_folder(path.parent)
    except OSError as error:
        raise RunError(f"{path} could not be written, and what it held is intact: {error}") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def write_text(path: Path, content: str) -> None:
    """Writes `content` as UTF-8 to `path` atomically; raises RunError as `write_bytes` does."""
    write_bytes(path, content.encode())


def jsonable(value: Any) -> Any:
    """Returns `value` as strict JSON can hold it: NaN and infinity become null, a tuple a list.

    Args:
      value: Nested mappings, sequences, strings, numbers (NumPy and torch scalars too), booleans, None.

    Raises:
      TypeError: If something else is in it; the message names its type.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return jsonable(value.tolist())
    if isinstance(value, (Sequence, set, frozenset)) and not isinstance(value, (bytes, bytearray)):
        return [jsonable(item) for item in value]
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON: {value!r}")


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented, strict JSON atomically; non-finite numbers become null."""
    write_text(path, json.dumps(jsonable(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads one JSON file.

    Raises:
      RunError: If it is missing, unreadable or not JSON; the message names the path.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def whole_length(path: Path) -> int:
    """Returns how many bytes of a line file are whole lines; a torn last line is left out."""
    if not path.exists():
        return 0
    content = path.read_bytes()
    return content.rfind(b"\n") + 1


def json_number(value: Any) -> str:
    """Writes one number as JSON: integers whole, floats exactly, NaN as null, infinity as ``1e999``.

    Every JSON reader turns ``1e999`` back into infinity. Tensors and arrays of one element are accepted.
    """
    if isinstance(value, int):
        return str(int(value))
    item = value.item() if hasattr(value, "item") else value
    if isinstance(item, int):
        return str(int(item))
    number = float(item)
    if math.isnan(number):
        return "null"
    if math.isinf(number):
        return "1e999" if number > 0 else "-1e999"
    return repr(number)
