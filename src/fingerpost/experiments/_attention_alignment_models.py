"""The models of attention-alignment: other attentions, other read-outs, and encoders that read less."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fingerpost import attention
from fingerpost.experiments import _translation as translation


class ShorterReading(attention.Encoder):
    r"""An encoder whose backward unit starts late: $\overleftarrow h_t = 0$ for the last `skipped` words.

    With the state 0 at T_x itself (Early Implementation of Attention Mechanism, 2021, equation 8) the backward unit never
    reads x_{T_x}; `skipped` is 1 if the ending signal is that word, and 2 if the last real word is.

    Args:
      encoder: The encoder whose parameters and sizes it has; one that reads both ways.
      skipped: Words at the end, the ending signal among them, that the backward unit does not read.
      onward: Whether annotations hold what the onward unit has read; otherwise 0 is in its place.
    """

    def __init__(self, encoder: attention.Encoder, skipped: int, onward: bool) -> None:
        words, reset = encoder.embedding, "after" if encoder.forward_unit.reset == "after" else "before"
        super().__init__(
            words.num_embeddings, words.embedding_dim, encoder.hidden, reset=reset, dropout=encoder.dropout
        )
        self.load_state_dict(encoder.state_dict())
        self.skipped, self.reads_onward = skipped, onward

    def forward(
        self, source: Tensor, mask: Tensor, *, embeddings: Tensor | None = None, fused: bool = True
    ) -> attention.Annotations:
        """As `Encoder`; sentences need more words than are skipped."""
        places = torch.arange(mask.shape[1], device=mask.device)
        kept = places < mask.sum(1, keepdim=True) - self.skipped
        late = super().forward(source, kept, embeddings=embeddings, fused=fused)
        backward = late.states[..., self.hidden :].masked_fill(~kept[..., None], 0)
        if not self.reads_onward:
            onward = torch.zeros_like(backward)
            return attention.Annotations(torch.cat([onward, backward], -1), onward[:, 0], late.backward)
        full = super().forward(source, mask, embeddings=embeddings, fused=fused)
        states = torch.cat([full.states[..., : self.hidden], backward], -1)
        return attention.Annotations(states, full.onward, late.backward)


class Reading(NamedTuple):
    """What an encoder reads: its name in tables and figures, whether it reads on and back, and what it skips at the end."""

    words: str
    onward: bool = True
    backward: bool = True
    skipped: int = 0

    def encoder_of(self, encoder: attention.Encoder) -> attention.Encoder:
        """The encoder that reads this, with an encoder's parameters."""
        if not self.backward or (self.onward and not self.skipped):
            return encoder
        return ShorterReading(encoder, self.skipped, self.onward).to(encoder.embedding.weight.device)


READINGS = {
    "both": Reading("both ways"),
    "forward": Reading("onwards alone", backward=False),
    "backward": Reading("backwards alone", onward=False),
    "ending": Reading("backwards alone, from the ending signal (eq. 8)", onward=False, skipped=1),
    "late": Reading("backwards alone, from the last word (eq. 8)", onward=False, skipped=2),
    "both-late": Reading("both ways, backwards from the last word (eq. 8)", skipped=2),
}
VARIANTS = {
    "additive": "additive",
    "dot": "scaled dot product",
    "heads": "four heads, mean weights",
    "forward": "additive, read onwards alone",
    "previous": "additive, output reads s of the word before",
    "original": "additive, order of the authors' code",
}
HEADS = 4


def variant(name: str) -> Callable[..., Any]:
    """What makes an RNNsearch of a variant, from the arguments of `new_model`."""

    def make(kind: str, source_size: int, target_size: int, recipe: translation.Recipe, seed: int) -> Any:
        n, changes = recipe.hidden, {}
        annotation = 2 * n if recipe.bidirectional else n
        with torch.random.fork_rng(devices=[]):  # what is drawn here is drawn again from the seed
            if name == "dot":
                changes["attention"] = attention.DotAttention(n, annotation)
            elif name == "heads":
                size = -(-n // HEADS) * HEADS
                changes["attention"] = attention.MultiHeadAttention(n, annotation, size, heads=HEADS)
            elif name in ("previous", "original"):
                changes["readout_state"] = name
        return translation.new_model(kind, source_size, target_size, recipe, seed, **changes)

    return make


def read_as(reading: Reading) -> Callable[..., Any]:
    """What makes an RNNsearch whose encoder reads so much, from the arguments of `new_model`."""

    def make(*arguments: Any) -> Any:
        model = translation.new_model(*arguments)
        model.encoder = reading.encoder_of(model.encoder)
        return model

    return make
