"""Checkpoints of a stage under way: safetensors and JSON that become visible together, or not at all.

``state-<hash>.safetensors`` holds the tensors and is named for its content; ``checkpoint.json`` holds
everything else, points to it, and has the SHA-256 of both. A save writes the new tensors, then replaces
``checkpoint.json`` in one step, then removes the old tensors: a kill at any point leaves one whole pair, and
the same state gives the same bytes. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from fingerpost.errors import RunError
from fingerpost.lab import files

POINTER = "checkpoint.json"
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def pack(value: Any, tensors: dict[str, Tensor], name: str = "") -> Any:
    """Splits nested state into a JSON skeleton and named tensors.

    Args:
      value: Mappings, lists, tuples, tensors, strings, numbers, booleans and None, nested at will.
      tensors: Receives the tensors, on the CPU and contiguous, complex ones as pairs of real numbers.
      name: The path of `value` within the whole.

    Raises:
      RunError: If something else is in it; the message names where.
    """
    if isinstance(value, Tensor):
        real = torch.view_as_real(value.detach().resolve_conj()) if value.is_complex() else value.detach()
        tensors[name] = real.cpu().contiguous().clone()
        return {"$complex" if value.is_complex() else "$tensor": name}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {"$map": [[pack(k, {}), pack(v, tensors, f"{name}/{k}")] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        items = [pack(item, tensors, f"{name}/{i}") for i, item in enumerate(value)]
        return {"$tuple": items} if isinstance(value, tuple) else items
    raise RunError(f"a checkpoint cannot hold {name or 'this'}: a {type(value).__name__} ({value!r:.60})")


def unpack(skeleton: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Joins what `pack` split."""
    if isinstance(skeleton, list):
        return [unpack(item, tensors) for item in skeleton]
    if not isinstance(skeleton, dict):
        return skeleton
    ((kind, content),) = skeleton.items()
    if kind == "$tensor":
        return tensors[content]
    if kind == "$complex":
        return torch.view_as_complex(tensors[content])
    if kind == "$tuple":
        return tuple(unpack(item, tensors) for item in content)
    return {unpack(key, tensors): unpack(item, tensors) for key, item in content}


class Checkpoint:
    """The checkpoint of one stage, in a folder of its own.

    Args:
      folder: ``checkpoint/<stage>/``.
      digest: Identifies the experiment and its configuration; a checkpoint of another is refused.
    """

    def __init__(self, folder: Path, digest: str) -> None:
        self.folder = folder
        self._digest = digest

    def begin(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Loads what was saved; in a fresh folder `facts` are saved, without tensors.

        Returns:
          The state that was saved last, or `facts`.

        Raises:
          RunError: If the checkpoint is damaged, incomplete or another configuration's; nothing is
            overwritten.
        """
        pointer = self.folder / POINTER
        if pointer.exists():
            return self._load(pointer)
        if self.folder.exists() and any(self.folder.glob("state-*")):
            raise self._refusal(pointer, "is missing, while tensors that it described are there")
        self._point(None, pack(facts, {}))
        return dict(facts)

    def save(self, state: Mapping[str, Any]) -> None:
        """Saves nested state, then removes the tensors of the state before.

        Raises:
          RunError: If it cannot be written (disk full); the state before is intact.
        """
        tensors: dict[str, Tensor] = {}
        skeleton = pack(state, tensors)
        content = save_safetensors(tensors)
        digest = hashlib.sha256(content).hexdigest()
        files.write_bytes(self._tensors_path(digest), content)
        self._point(digest, skeleton)
        for path in self.folder.glob("state-*.safetensors"):
            if path != self._tensors_path(digest):
                path.unlink(missing_ok=True)

    def _tensors_path(self, digest: str) -> Path:
        return self.folder / f"state-{digest[:16]}.safetensors"

    def _point(self, tensors_digest: str | None, skeleton: Any) -> None:
        text = json.dumps({"run": self._digest, "tensors": tensors_digest, "state": skeleton})
        digest = hashlib.sha256(text.encode()).hexdigest()
        files.write_text(self.folder / POINTER, f'{{"sha256": "{digest}", "body":\n{text}\n}}\n')

    def _load(self, pointer: Path) -> dict[str, Any]:
        body = self._body(pointer)
        if body["run"] != self._digest:
            raise self._refusal(pointer, "belongs to another experiment or configuration")
        tensors = self._tensors(body["tensors"]) if body["tensors"] is not None else {}
        return unpack(body["state"], tensors)

    def _body(self, pointer: Path) -> dict[str, Any]:
        lines = pointer.read_bytes().split(b"\n")
        digest = hashlib.sha256(lines[1] if len(lines) > 1 else b"").hexdigest()
        if lines[0] != f'{{"sha256": "{digest}", "body":'.encode():
            raise self._refusal(pointer, "does not match its own SHA-256")
        return json.loads(lines[1])

    def _tensors(self, digest: str) -> dict[str, Tensor]:
        path = self._tensors_path(digest)
        if not path.exists():
            raise self._refusal(path, "is missing")
        content = path.read_bytes()
        if content.startswith(_PICKLES):
            raise self._refusal(path, "is a pickle where safetensors belong, and pickles are never loaded")
        if hashlib.sha256(content).hexdigest() != digest:
            raise self._refusal(path, f"does not match the SHA-256 in {POINTER}")
        try:
            return load_safetensors(content)
        except SafetensorError as error:
            raise self._refusal(path, f"is not a safetensors file ({error})") from error

    def _refusal(self, path: Path, what: str) -> RunError:
        return RunError(
            f"{path} {what}; nothing was overwritten. Remove {self.folder} to run this stage from its start"
        )
