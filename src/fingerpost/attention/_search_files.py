"""Models in files: what makes one anew, as JSON, and its parameters in safetensors; nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from fingerpost.attention.models import AbstractEncoderDecoder, RNNEncoderDecoder, RNNSearch
from fingerpost.attention.scores import AbstractAttention, AdditiveAttention, DotAttention, MultiHeadAttention
from fingerpost.errors import InvalidTypeError, InvalidValueError

FACTS, WEIGHTS = "translator.json", "translator.safetensors"
FORMAT = "fingerpost translator 1"
MODELS: dict[str, type[AbstractEncoderDecoder]] = {
    "RNNSearch": RNNSearch,
    "RNNEncoderDecoder": RNNEncoderDecoder,
}


def write(folder: Path, facts: dict[str, Any], model: AbstractEncoderDecoder) -> None:
    """Writes a folder's two files; the facts last, since they name the content of the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = save_tensors(
        {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    )
    facts = {
        "format": FORMAT,
        **facts,
        "model": describe(model),
        "weights": hashlib.sha256(weights).hexdigest(),
    }
    _replace(folder / WEIGHTS, weights)
    _replace(folder / FACTS, (json.dumps(facts, ensure_ascii=False, indent=1) + "\n").encode())


def read(folder: Path) -> tuple[dict[str, Any], AbstractEncoderDecoder]:
    """What `write` wrote; raises InvalidValueError where it is missing, damaged or not of one piece."""
    path = folder / FACTS
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        content = (folder / WEIGHTS).read_bytes()
    except (OSError, ValueError) as error:
        raise InvalidValueError(f"{folder} cannot be read as a translator: {error}") from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise InvalidValueError(f"{path} holds no translator that this version can read")
    if hashlib.sha256(content).hexdigest() != facts.get("weights"):
        raise InvalidValueError(
            f"{folder / WEIGHTS} is not the file that {path} was written with: one of them is damaged or from another run"
        )
    try:
        model = build(facts["model"])
        model.load_state_dict(load_tensors(content))
    except (KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise InvalidValueError(f"{path} does not fit its weights: {error}") from error
    return facts, model.eval()


def describe(model: AbstractEncoderDecoder) -> dict[str, Any]:
    """The arguments that make a model of the same shape, as JSON can hold them."""
    name = next((name for name, kind in MODELS.items() if type(model) is kind), None)
    if name is None:
        raise InvalidTypeError(f"model is {type(model).__name__}; expected one of {', '.join(MODELS)}")
    decoder, embedding = model.decoder, model.encoder.embedding
    found = {
        "kind": name,
        "source_size": embedding.num_embeddings,
        "target_size": decoder.embedding.num_embeddings,
        "embedding": embedding.embedding_dim,
        "hidden": decoder.unit.hidden_size,
        "maxout": decoder.output.in_features,
        "reset": decoder.unit.reset,
        "bidirectional": model.encoder.backward_unit is not None,
        "readout_state": decoder.readout_state,
        "dropout": decoder.dropout,
        "fused": model.fused,
        "dtype": str(embedding.weight.dtype).removeprefix("torch."),
    }
    return found if decoder.attention is None else {**found, "attention": _described(decoder.attention)}


def build(settings: dict[str, Any]) -> AbstractEncoderDecoder:
    """A model with such arguments, its parameters not yet the right ones."""
    import torch

    arguments = dict(settings)
    kind, dtype = MODELS[arguments.pop("kind")], getattr(torch, arguments.pop("dtype"))
    make: Any = kind
    with torch.random.fork_rng(devices=[]):  # drawing what is overwritten must not move the caller's state
        if "attention" in arguments:
            arguments["attention"] = _rebuilt(**arguments["attention"])
        return make(**arguments).to(dtype)


def _described(attention: AbstractAttention) -> dict[str, Any]:
    sizes = {"query_size": attention.query_size, "key_size": attention.key_size}
    if type(attention) is AdditiveAttention:
        return {"kind": "additive", **sizes, "size": attention.size}
    if type(attention) is DotAttention:
        return {"kind": "dot", **sizes, "project": attention.key is not None}
    if type(attention) is MultiHeadAttention:
        values = {"size": attention.size, "heads": attention.heads, "value_size": attention.value.in_features}
        return {"kind": "heads", **sizes, **values}
    raise InvalidTypeError(
        f"attention is {type(attention).__name__}; a file can hold AdditiveAttention, DotAttention and MultiHeadAttention: "
        "keep the model's state_dict yourself"
    )


def _rebuilt(kind: str, **arguments: Any) -> AbstractAttention:
    kinds: dict[str, Any] = {"additive": AdditiveAttention, "dot": DotAttention, "heads": MultiHeadAttention}
    return kinds[kind](**arguments)


def _replace(path: Path, content: bytes) -> None:
    """The whole old file or the whole new one, whatever happens in between."""
    temporary = path.with_name(f".writing-{path.name}")
    with open(temporary, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)
