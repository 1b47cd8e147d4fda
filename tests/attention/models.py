"""Small models in float64 of every kind, and a ragged batch for them."""

from __future__ import annotations

import itertools

import torch

from fingerpost.attention import RNNEncoderDecoder, RNNSearch

SIZES = {"embedding": 5, "hidden": 6, "maxout": 4}
KINDS = {
    f"{name}-{reset}-{read}-{'both' if both else 'onward'}": (cls, extra, reset, read, both)
    for (name, cls, extra), reset, read, both in itertools.product(
        [("search", RNNSearch, {"attention": 7}), ("fixed", RNNEncoderDecoder, {})],
        ["before", "after"],
        ["previous", "current", "original"],
        [True, False],
    )
}


def build(kind, seed=0, **changes):
    """A model whose parameters are zero nowhere."""
    cls, extra, reset, read, both = KINDS[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = cls(
            11,
            13,
            **{**SIZES, **extra, "reset": reset, "readout_state": read, "bidirectional": both, **changes},
        ).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return model


def batch(lengths=((5, 4), (1, 6), (3, 1), (5, 2)), seed=0):
    """Ids of sentences of these lengths, each ending in EOS."""
    generator = torch.Generator().manual_seed(seed)

    def side(which, size):
        longest = max(pair[which] for pair in lengths)
        ids = torch.zeros(len(lengths), longest, dtype=torch.int64)
        for row, pair in zip(ids, lengths):
            n = pair[which]
            row[:n] = torch.randint(4, size, (n,), generator=generator)
            row[n - 1] = 3
        return ids

    return side(0, 11), side(1, 13)


def gradients(model, value):
    parameters = dict(model.named_parameters())
    found = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
    return dict(zip(parameters, found))
