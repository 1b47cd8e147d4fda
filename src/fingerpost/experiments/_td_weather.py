"""Made-up spells of changeable weather, each of which ends in rain or clears up."""

from __future__ import annotations

from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost.lab import derive_seed

torch = lazy_import("torch")
td = lazy_import("fingerpost.td")

FEATURES = ("pressure", "humidity", "cloud", "wind")
STATES = 9
"""Between clear sky (0) and rain (10) on a scale of how bad the weather is; each day it moves up or down by one."""


def spells(count: int, seed: int, noise: float = 1.0) -> Any:
    """A `SequenceTable` of `count` spells: daily pressure (hPa), humidity (%), cloud (oktas) and wind (m/s); 1 is rain.

    The weather is a random walk that begins anywhere; the chance of rain is its place, over 10. Instruments see it with
    noise, 1 hPa, 2 % and 0.25 oktas at `noise` = 1, and wind doesn't see it at all.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "weather"))
    starts = torch.randint(STATES, (count,), generator=generator).tolist()
    walks = {s: td.RandomWalk(STATES, start=s) for s in range(STATES)}
    sequences = []
    for start in starts:
        (states, rains) = walks[start].sample_states(generator, 1)[0]
        error = noise * torch.randn(len(states), 3, generator=generator, dtype=torch.float64)
        wind = torch.randn(len(states), generator=generator, dtype=torch.float64)
        place = states.double() + 1
        rows = torch.stack(
            [
                1033 - 4 * place + error[:, 0],
                40 + 5 * place + 2 * error[:, 1],
                (0.8 * place + error[:, 2] / 4).clamp(0, 8).round(),
                (4 + 2 * wind).abs(),
            ],
            1,
        )
        sequences.append(
            td.OutcomeSequence((10 * rows).round() / 10, torch.tensor(float(rains), dtype=torch.float64))
        )
    ids = tuple(f"spell {k + 1}" for k in range(count))
    return td.SequenceTable(FEATURES, ids, sequences)
