"""Times RNNsearch: training against a loop of cells, a public toolkit and the matrix products alone; search against loops.

python benchmarks/attention.py [--quick] [--only PART]: writes benchmarks/results/attention.json and prints a table; with
--only it prints alone. The peer is listed in benchmarks/requirements-attention.txt; without it, its column is empty.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from _attention_cells import CellLoop
from _attention_decoding import decoding
from _attention_peers import joey
from _interleave import environment, interleave, medians, ratio_interval
from fingerpost._table import Table
from fingerpost.attention import EOS, RNNSearch

VOCABULARY, BATCH, DROPOUT = 9000, 80, 0.3
SPEED = {256: 2.8, 512: 4.0}
"""Tokens a second over those of the tutorials' loop, by the number of hidden units."""
FLOOR = 0.6
"""Of the tokens a second that the matrix products alone would allow."""
BASES = {
    "tutorial": "the tutorials' loop, whose vocabulary reads state, word and context itself",
    "cells": "a loop of cells with layers of the same sizes",
    "floor": "the matrix products alone",
}
OTHERS = (("cells", None), ("floor", FLOOR))
Row = dict[str, Any]
Batch = tuple[Tensor, Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--only", choices=list(PARTS), help="one part, printed and not written")
    flags = parser.parse_args()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    parts = [PARTS[flags.only]] if flags.only else PARTS.values()
    rows = [row for part in parts for row in part(flags.quick)]
    torch.set_num_threads(threads)
    if not flags.only:
        path = Path(__file__).parent / "results" / "attention.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")
    print(table(rows))


def sentences(count: int, draw: torch.Generator) -> list[Batch]:
    """Batches of a pool sorted by length: 12 ± 4 words and the end, as in Multi30k; words by a power law."""
    total = count * BATCH
    source = (12 + 4 * torch.randn(total, generator=draw)).round().clamp(3, 40).long() + 1
    target = (source + (1.8 * torch.randn(total, generator=draw)).round().long()).clamp(3)
    order = (target * 100 + source).argsort()

    def ids(lengths: Tensor) -> Tensor:
        words = 4 + ((VOCABULARY - 4) * torch.rand(BATCH, int(lengths.max()), generator=draw) ** 3).long()
        words[torch.arange(words.shape[1]) >= lengths[:, None]] = 0
        words[torch.arange(BATCH), lengths - 1] = EOS
        return words

    return [(ids(source[rows]), ids(target[rows])) for rows in order.split(BATCH)]


class Training:
    """Steps over the same batches: loss, gradient, its norm clipped, fused Adam."""

    def __init__(self, model: nn.Module, batches: list[Batch]) -> None:
        self.model, self.batches = model, batches
        self.optimiser = torch.optim.Adam(model.parameters(), fused=True)

    def __call__(self) -> None:
        for source, target in self.batches:
            self.optimiser.zero_grad()
            loss = self.model(source, target)
            mean = loss if isinstance(loss, Tensor) else loss.total / loss.count
            mean.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimiser.step()


class Products:
    """The model's products by weights, each for all words of a batch at once, forwards and twice back, and nothing else."""

    def __init__(self, hidden: int, batches: list[Batch]) -> None:
        n, v = hidden, VOCABULARY
        by_source = [(n, 3 * n), (n, 3 * n), (n, 3 * n), (n, 3 * n), (2 * n, n)]
        by_target = [
            (n, 3 * n),
            (n, 3 * n),
            (2 * n, 3 * n),
            (n, n),
            (n, 2 * n),
            (n, 2 * n),
            (2 * n, 2 * n),
            (n, v),
        ]
        self.made = []
        for source, target in batches:
            for side, sizes in ((source, by_source), (target, by_target)):
                words = int((side != 0).sum())
                self.made += [
                    tuple(torch.randn(s) for s in ((words, i), (o, i), (words, o))) for i, o in sizes
                ]
        most = max(max(x.numel(), w.numel(), y.numel()) for x, w, y in self.made)
        self.room = torch.empty(most)

    def __call__(self) -> None:
        for x, w, y in self.made:
            torch.mm(x, w.t(), out=self.room[: y.numel()].view_as(y))
            torch.mm(y, w, out=self.room[: x.numel()].view_as(x))
            torch.mm(y.t(), x, out=self.room[: w.numel()].view_as(w))


def training(quick: bool) -> list[Row]:
    rows: list[Row] = []
    for hidden, target in SPEED.items():
        draw = torch.Generator().manual_seed(0)
        batches = sentences(20, draw)[2::8]
        words = sum(int((y != 0).sum()) for _, y in batches)
        sizes = {"embedding": hidden, "hidden": hidden, "attention": hidden, "maxout": hidden}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            ours = RNNSearch(VOCABULARY, VOCABULARY, **sizes, dropout=DROPOUT)
            plain = RNNSearch(VOCABULARY, VOCABULARY, **sizes, dropout=DROPOUT, fused=False)
            tutorial = CellLoop(VOCABULARY, hidden, DROPOUT, maxout=False)
            cells, peer = (
                CellLoop(VOCABULARY, hidden, DROPOUT, maxout=True),
                joey(VOCABULARY, hidden, DROPOUT),
            )
            functions: dict[str, Callable[[], None]] = {
                "ours": Training(ours, batches),
                "autograd": Training(plain, batches),
                "tutorial": Training(tutorial, batches),
                "cells": Training(cells, batches),
                "floor": Products(hidden, batches),
            }
            if not isinstance(peer, str):
                functions["joeynmt"] = Training(peer, batches)
            times = interleave(functions, 3 if quick else 9, warmup=1)
        why = peer if isinstance(peer, str) else ""
        rows += [
            speed(hidden, words, times, base, goal, why) for base, goal in (("tutorial", target), *OTHERS)
        ]
    return rows


def speed(
    hidden: int, words: int, times: dict[str, list[float]], base: str, target: float | None, why: str
) -> Row:
    """Words of the target a second: larger is better. Ratio and peer over the base."""
    rate = {name: words / seconds for name, seconds in medians(times).items()}
    ratio = rate["ours"] / rate[base]
    recorded = f"the same model recorded by autograd: {rate['autograd'] / rate[base]:.2f} ×"
    return {
        "system": "attention: training",
        "case": f"RNNsearch, hidden {hidden}, {VOCABULARY} words, B {BATCH}, 12 ± 4 words",
        "ours": rate["ours"],
        "base": rate[base],
        "peer": rate["joeynmt"] / rate[base] if "joeynmt" in rate else None,
        "peer_name": "joeynmt",
        "floor": rate["floor"] / rate[base],
        "ratio": ratio,
        "interval": ratio_interval(times[base], times["ours"]),
        "target": target,
        "holds": None if target is None else ratio >= target,
        "unit": f"× tokens a second of {BASES[base]}",
        "repeats": len(times["ours"]),
        "note": f"{recorded}; {why}" if why else recorded,
    }


def table(rows: list[Row]) -> Table:
    columns = ("system", "case", "ours", "base", "ratio", "unit", "peer", "floor", "target", "holds", "note")
    caption = (
        "Target words a second, loss, gradient, clipping and fused Adam together, CPU time, one thread; ratio, peer and floor "
        "over the base; for beam search sentences a second. "
        "The floor is the products by weights alone, each for a whole batch at once."
    )
    return Table(columns, [[row[column] for column in columns] for row in rows], "Attention", caption)


PARTS: dict[str, Callable[[bool], list[Row]]] = {"training": training, "decoding": decoding}

if __name__ == "__main__":
    main()
