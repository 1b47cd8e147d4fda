"""What the tests of several processes run: small trainings, in this process or on every rank of a launched group."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple

import torch

from fingerpost.errors import InvalidTypeError
from fingerpost.lab import Run, derive_seed, minibatches, run_experiment, train
from fingerpost.lab._ranks import here


class Pairs(NamedTuple):
    """A batch with a name on it."""

    x: torch.Tensor
    rest: dict[str, Any]


def data(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(n, 3, dtype=torch.float64, generator=generator)
    return x, x.sin().sum(1, keepdim=True)


def network(seed: int, dropout: float = 0.0, middle: torch.nn.Module | None = None) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    extra = [middle] if middle is not None else []
    model = torch.nn.Sequential(
        torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Dropout(dropout), *extra, torch.nn.Linear(5, 1)
    ).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    return model


def squares(model: torch.nn.Module, batch: Any) -> dict[str, Any]:
    x, y = batch
    loss = (model(x) - y).square().mean()
    loss.backward()
    return {"loss": loss, "rows": len(x)}


def fit(
    model: torch.nn.Module, step: Any = squares, n: int = 10, size: int = 4, **options: Any
) -> dict[str, Any]:
    x, y = data(n)
    pick = minibatches(n, size, 3)
    batches = options.pop("batches", lambda k: (x[pick(k)], y[pick(k)]))
    optimizer = options.pop("optimizer", None) or torch.optim.Adam(model.parameters(), lr=0.03)
    made = options.pop("scheduler", lambda optimizer: None)
    result = train(
        model, optimizer, step, batches, **{"steps": 9, "seed": 1, "scheduler": made(optimizer), **options}
    )
    state = {name: value.tolist() for name, value in model.state_dict().items()}
    averaged = {name: value.tolist() for name, value in (result.averaged or {}).items()}
    return {
        "state": state, "averaged": averaged, "history": result.history, "stopped": result.stopped,
        "best": result.best,
    }  # fmt: skip


def short_last_batch() -> dict[str, Any]:
    return fit(network(0))


def a_rank_with_no_rows() -> dict[str, Any]:
    return fit(network(0), n=9)


def every_option() -> dict[str, Any]:
    x, y = data(30)
    return fit(
        network(0), n=9, steps=200, clip_norm=0.5, ema=0.9, evaluate_every=5, patience=2, maximize=True,
        scheduler=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9),
        evaluate=lambda model: {"loss": (model(x) - y).square().mean()}, log_every=3,
    )  # fmt: skip


def on_a_plateau() -> dict[str, Any]:
    return fit(
        network(0), evaluate=lambda model: {"loss": model[0].weight.square().sum()}, evaluate_every=2,
        scheduler=lambda optimizer: torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0),
    )  # fmt: skip


def words() -> dict[str, Any]:
    """A loss per word, sentences of 0 to 3 words; every second rank's first batch has none."""
    x, y = data(8)
    lengths = torch.tensor([3, 0, 1, 0, 2, 3, 0, 1])

    def step(model: torch.nn.Module, batch: Any) -> dict[str, Any]:
        x, y, length = batch
        count = int(length.sum())
        loss = ((model(x) - y).square()[:, 0] * length).sum() / count
        loss.backward()
        return {"loss": loss.detach(), "count": count}

    parts = [slice(0, 4), slice(4, 8), slice(4, 7)]
    return fit(network(0), step, batches=lambda k: (x[parts[k % 3]], y[parts[k % 3]], lengths[parts[k % 3]]))


def nested_batch() -> dict[str, Any]:
    """Tensors in a dictionary in a named tuple in a list, beside what has no rows or other ones."""
    x, y = data(10)
    times = torch.linspace(0, 1, 3, dtype=torch.float64)

    def step(model: torch.nn.Module, batch: Any) -> dict[str, Any]:
        (pairs,) = batch
        assert [len(pairs.rest["times"]), pairs.rest["scale"].ndim, pairs.rest["name"]] == [3, 0, "x"]
        loss = ((model(pairs.x) - torch.from_numpy(pairs.rest["y"])).square().mean(1) * times.sum()).mean()
        (loss * pairs.rest["scale"]).backward()
        return {"loss": loss}

    def batch(k: int) -> list[Pairs]:
        rest = {"y": y[k : k + 5].numpy(), "times": times, "scale": torch.tensor(2.0), "name": "x"}
        return [Pairs(x[k : k + 5], rest)]

    return fit(network(0), step, batches=batch, steps=5)


def no_rows_to_split() -> dict[str, Any]:
    x, y = data(10)
    return fit(network(0), lambda model, k: squares(model, (x, y)), batches=lambda k: k)


def not_to_be_split() -> dict[str, Any]:
    """A sum over rows, in which a part would count too little."""

    def step(model: torch.nn.Module, batch: Any) -> dict[str, Any]:
        loss = (model(batch[0]) - batch[1]).square().sum()
        loss.backward()
        return {"loss": loss, "count": len(batch[0])}

    return fit(network(0), step, split=False)


def other_first_weights() -> dict[str, Any]:
    return fit(network(here().rank))


def parameters_of_some_rows() -> dict[str, Any]:
    """One parameter that only a row of the second rank uses, and one that none does; decay would move it if it had a zero."""
    model = torch.nn.ParameterDict(
        {name: torch.nn.Parameter(torch.ones(2, dtype=torch.float64)) for name in ("all", "some", "none")}
    )
    x = torch.arange(1.0, 5.0, dtype=torch.float64)

    def step(model: Any, batch: torch.Tensor) -> dict[str, Any]:
        losses = [(model["all"] * value).square().sum() for value in batch]
        losses = [
            loss + model["some"].sum() if value == 2 else loss for loss, value in zip(losses, batch.tolist())
        ]
        loss = torch.stack(losses).mean()
        loss.backward()
        return {"loss": loss}

    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, weight_decay=0.1, momentum=0.5)
    return fit(model, step, batches=lambda k: x, optimizer=optimizer)


def float32_and_float64() -> dict[str, Any]:
    model = torch.nn.ModuleDict({"narrow": torch.nn.Linear(3, 2), "wide": torch.nn.Linear(2, 1).double()})
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, 0.1)

    def step(model: Any, batch: Any) -> dict[str, Any]:
        loss = (model["wide"](model["narrow"](batch[0].float()).double()) - batch[1]).square().mean()
        loss.backward()
        return {"loss": loss}

    return fit(model, step, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))


def diverging() -> dict[str, Any]:
    """The loss of one row, which the second rank has, is infinite at step 4."""

    def step(model: torch.nn.Module, batch: Any) -> dict[str, Any]:
        loss = (model(batch[0][:, :3]) - batch[1]).square().mean()
        loss.backward()
        return {"loss": loss.detach() + batch[0][:, 3].sum()}

    x, y = data(4)
    sick = [torch.zeros(4, 1, dtype=torch.float64) for _ in range(9)]
    sick[3][1] = torch.inf
    return fit(network(0), step, batches=lambda k: (torch.cat([x, sick[k]], 1), y))


def with_statistics() -> dict[str, Any]:
    """Batch normalisation sees a rank's part alone, so this isn't what one process gives; but all ranks have the same."""
    return fit(
        network(0, middle=torch.nn.BatchNorm1d(5)), size=5, evaluate=lambda model: {"loss": 1.0}, ema=0.9
    )


SAME = [
    short_last_batch, a_rank_with_no_rows, every_option, on_a_plateau, words, nested_batch, no_rows_to_split,
    not_to_be_split, parameters_of_some_rows, float32_and_float64, diverging,
]  # fmt: skip


def numbers(directory: Path) -> None:
    """Every training of `SAME` and some that one process can't have."""
    own = [other_first_weights, with_statistics]
    found = {case.__name__: case() for case in [*SAME, *own]}
    (directory / f"rank{here().rank}.json").write_text(json.dumps(found))


# Runs.


def drawing(config: dict[str, Any], run: Run) -> None:
    """Dropout, a generator of one's own, files that the experiment writes, two stages; perhaps killed under way."""

    def stage(name: str) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(derive_seed(0, name))

        def step(model: torch.nn.Module, batch: Any) -> dict[str, Any]:
            Drawn.steps += 1
            if Drawn.steps == config["kill"] and here().rank == config["rank"]:
                os.kill(os.getpid(), signal.SIGKILL)
            noise = torch.randn(len(batch[0]), 1, dtype=torch.float64, generator=generator)
            Drawn.noise.append(float(noise[0]))
            return squares(model.train(), (batch[0], batch[1] + noise))

        found = fit(network(0, dropout=0.4), step, run=run, stage=name, checkpoint_seconds=0,
                    extra={"noise": generator}, clip_norm=1.0, ema=0.5)  # fmt: skip
        (run.directory / "kept").mkdir(exist_ok=True)
        (run.directory / "kept" / f"{name}.txt").write_text(f"{name} of rank {here().rank}")
        return {**found, "first": torch.rand(()).item()}

    for name in ("first", "second"):
        found = run.once(name, lambda name=name: stage(name))
        run.log(name, 10, after=found["first"])
        assert (run.directory / "kept" / f"{name}.txt").read_text() == f"{name} of rank 0"
    fit(network(0, dropout=0.4), run=run, stage="loose")
    run.text("Rank", f"Written by rank {here().rank}.")


class Drawn:
    """What this process did."""

    steps = 0
    noise: ClassVar[list[float]] = []


def killed(directory: Path, kill: str = "0", rank: str = "0") -> None:
    """The experiment `drawing`, in which a rank kills itself at a step."""
    Drawn.steps = 0
    settings = {"seed": 0}
    run = SimpleNamespace(
        __name__="drawing", run=lambda _, run: drawing({"kill": int(kill), "rank": int(rank)}, run)
    )
    done = run_experiment(run, settings, directory / "run", name="drawing")
    assert (done.finished, done.directory) == (True, directory / "run")
    (directory / f"noise{here().rank}.json").write_text(json.dumps(Drawn.noise))


def failing(directory: Path) -> None:
    """Rank 1 fails in a step; both catch the same error, and go on together. Then it fails alone."""

    def step(model: torch.nn.Module, batch: Any) -> dict[str, Any]:
        if here().rank:
            raise FloatingPointError("of rank 1")
        return squares(model, batch)

    try:
        fit(network(0), step)
    except FloatingPointError as error:
        (directory / f"rank{here().rank}.txt").write_text(str(error))
    embedding = torch.nn.Embedding(3, 3, sparse=True)
    try:
        fit(embedding, lambda model, batch: model(batch).sum().backward(), batches=lambda k: torch.arange(3),
            optimizer=torch.optim.SparseAdam(list(embedding.parameters())))  # fmt: skip
    except InvalidTypeError as error:
        (directory / f"sparse{here().rank}.txt").write_text(str(error))
    fit(network(0))
    if here().rank:
        raise ValueError("alone")
    fit(network(0))


def parted(directory: Path) -> None:
    """The ranks make different calls."""
    here().together("there" if here().rank else "here", lambda: None)
