"""What the classification experiments share: one recipe, one training per (optimiser, signal, seed), one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fingerpost._lazy import lazy_import
from fingerpost._table import Table, format_interval
from fingerpost.errors import NumericalError
from fingerpost.lab import (
    Claim,
    Run,
    derive_seed,
    legend_outside,
    mean_interval,
    minibatches,
    new_figure,
    paired_interval,
    train,
)

torch = lazy_import("torch")
credit = lazy_import("fingerpost.credit")

SIGNALS = {
    "backprop": "backpropagation",
    "error": "error credit, centred",
    "displacement": "displacement credit (the fix)",
    "wrong-sign": "displacement, wrong sign (the bug)",
    "direct-feedback": "direct feedback alignment",
    "feedback": "feedback alignment",
}
OPTIMIZERS = {"adam": "Adam", "sgd": "SGD"}


@dataclass(frozen=True)
class Recipe:
    """How one network is built and trained; see the experiments' `Config` for the fields' meaning."""

    depth: int
    width: int
    classes: int
    batch_size: int
    epochs: int
    beta: float
    error_beta: float
    steps: int
    adam_rate: float
    sgd_rate: float
    ema: float
    device: str
    dtype: str


def recipe_of(config: Any, classes: int) -> Recipe:
    """The recipe in an experiment's `Config`, whose fields have the same names."""
    shared = [name for name in Recipe.__dataclass_fields__ if name != "classes"]
    return Recipe(**{name: getattr(config, name) for name in shared}, classes=classes)


class Data(NamedTuple):
    """Inputs (N, features) and labels (N,), for training and for testing."""

    train_x: Any
    train_y: Any
    test_x: Any
    test_y: Any

    def to(self, device: str, dtype: str) -> Data:
        """Moves the tensors, and the inputs to `dtype`."""
        kind = getattr(torch, dtype)
        x = [t.to(device=device, dtype=kind) for t in (self.train_x, self.test_x)]
        return Data(x[0], self.train_y.to(device), x[1], self.test_y.to(device))


def signal_named(name: str, recipe: Recipe, seed: int) -> Any:
    """The credit behind a name of `SIGNALS`."""
    return {
        "backprop": lambda: credit.Backprop(),
        "error": lambda: credit.ErrorCredit(beta=recipe.error_beta, steps=3),
        "displacement": lambda: credit.DisplacementCredit(beta=recipe.beta, steps=recipe.steps),
        "wrong-sign": lambda: credit.DisplacementCredit(beta=recipe.beta, steps=recipe.steps, sign=-1),
        "direct-feedback": lambda: credit.DirectFeedbackAlignment(seed=seed),
        "feedback": lambda: credit.FeedbackAlignment(seed=seed),
    }[name]()


def new_network(recipe: Recipe, features: int, seed: int) -> Any:
    """A tanh residual network with weights drawn from `seed` alone."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "weights"))
    chain = credit.residual_mlp(features, recipe.width, recipe.classes, recipe.depth, generator=generator)
    return chain.to(device=recipe.device, dtype=getattr(torch, recipe.dtype))


def train_one(data: Data, recipe: Recipe, optimizer: str, signal: str, seed: int, run: Run) -> dict[str, Any]:
    """Trains one network with one signal under one optimiser, once in the run's life.

    Returns:
      ``accuracy`` on the test set after the last step, ``curve`` as [epoch, accuracy] pairs, ``stopped``.
    """
    stage = f"{optimizer}-{signal}-seed{seed}"

    def work() -> dict[str, Any]:
        return _train(data.to(recipe.device, recipe.dtype), recipe, optimizer, signal, seed, run, stage)

    return run.once(stage, work)


def _train(
    data: Data, recipe: Recipe, optimizer: str, signal: str, seed: int, run: Run, stage: str
) -> dict[str, Any]:
    chain = new_network(recipe, data.train_x.shape[1], seed)
    rates = {"adam": (torch.optim.Adam, recipe.adam_rate), "sgd": (torch.optim.SGD, recipe.sgd_rate)}
    kind, rate = rates[optimizer]
    per_epoch = -(-len(data.train_x) // recipe.batch_size)
    pick = minibatches(len(data.train_x), recipe.batch_size, seed)

    def batches(step: int) -> tuple[Any, Any]:
        rows = pick(step).to(data.train_x.device)
        return data.train_x[rows], data.train_y[rows]

    def evaluate(model: Any) -> Mapping[str, float]:
        with torch.no_grad():
            return {"accuracy": float((model(data.test_x).argmax(1) == data.test_y).double().mean())}

    result = train(
        chain,
        kind(chain.parameters(), lr=rate),
        _step_with(signal_named(signal, recipe, seed)),
        batches,
        steps=recipe.epochs * per_epoch,
        seed=seed,
        run=run,
        stage=stage,
        evaluate=evaluate,
        evaluate_every=per_epoch,
        ema=recipe.ema,
        monitor="accuracy",
        maximize=True,
        log_every=per_epoch,
    )
    curve = [[row["step"] / per_epoch, row["accuracy"]] for row in result.history if "accuracy" in row]
    return {"accuracy": curve[-1][1], "curve": curve, "stopped": result.stopped}


def _step_with(signal: Any) -> Callable[[Any, Any], Mapping[str, Any]]:
    def step(chain: Any, batch: tuple[Any, Any]) -> Mapping[str, Any]:
        x, y = batch
        free = credit.free_phase(chain, x)
        loss = chain.losses(free.states[-1], y).mean()
        try:
            layers = signal(chain, x, y)
        except NumericalError:  # the weights have run away, as under the wrong sign they may: a diverged run
            layers, loss = free.states[1:], torch.full_like(loss, torch.nan)
        credit.local_gradients(chain, x, y, layers, free=free)
        return {"loss": loss.detach()}

    return step


Results = dict[tuple[str, str], list[dict[str, Any]]]


def train_all(
    load: Callable[[int], Data],
    recipe: Recipe,
    optimizers: Sequence[str],
    signals: Sequence[str],
    seeds: int,
    first_seed: int,
    run: Run,
) -> Results:
    """Every signal under every optimiser, over `seeds` splits and initial weights; seeds are paired."""
    results: Results = {(o, s): [] for o in optimizers for s in signals}
    jobs = [
        (seed, o, s) for seed in range(first_seed, first_seed + seeds) for o in optimizers for s in signals
    ]
    for seed, optimizer, signal in run.progress(jobs, "training"):
        results[optimizer, signal].append(train_one(load(seed), recipe, optimizer, signal, seed, run))
    return results


def accuracies(results: Results, optimizer: str, signal: str) -> list[float]:
    """Final test accuracy per seed."""
    return [result["accuracy"] for result in results[optimizer, signal]]


def accuracy_table(results: Results, title: str, caption: str) -> Table:
    """Mean final test accuracy with its t interval over seeds, and the paired difference to backpropagation."""
    rows = []
    for optimizer, signal in results:
        ours = accuracies(results, optimizer, signal)
        mean = mean_interval(ours)
        gap = paired_interval(ours, accuracies(results, optimizer, "backprop"))
        around, apart = format_interval(mean[1:]), format_interval([100 * end for end in gap[1:]])
        rows.append(
            [OPTIMIZERS[optimizer], SIGNALS[signal], mean[0], around, len(ours), 100 * gap.mean, apart]
        )
    heads = ["optimiser", "signal", "accuracy", "interval", "seeds", "− backprop (points)", "interval of it"]
    return Table(heads, rows, title=title, caption=caption)


def curves_figure(results: Results, optimizers: Sequence[str], chance: float) -> Any:
    """Test error over epochs, one panel per optimiser; lines are means over seeds, bands their range."""
    figure, axes = new_figure(
        1, len(optimizers), width=5.2 * len(optimizers), height=4.6, squeeze=False, sharey=True
    )
    for axis, optimizer in zip(axes[0], optimizers):
        for (chosen, signal), runs in results.items():
            if chosen != optimizer:
                continue
            length = min(len(r["curve"]) for r in runs)
            epochs = [point[0] for point in runs[0]["curve"][:length]]
            values = 1 - torch.tensor([[point[1] for point in r["curve"][:length]] for r in runs])
            (line,) = axis.plot(epochs, values.mean(0), label=SIGNALS[signal], markevery=max(1, length // 6))
            axis.fill_between(
                epochs, values.amin(0), values.amax(0), color=line.get_color(), alpha=0.15, linewidth=0
            )
        axis.axhline(1 - chance, color="0.45", linewidth=1, linestyle=":", marker="")
        axis.set_xlabel("epoch")
        axis.set_title(OPTIMIZERS[optimizer])
        axis.set(yscale="log", ylim=(0.01, 1.1), yticks=[0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1])
        axis.set_yticklabels(["1", "2", "5", "10", "20", "50", "100"])
        axis.minorticks_off()
    axes[0][0].set_ylabel("test error (%)")
    legend_outside(figure, axes[0][0])
    return figure


def accuracy_claim(results: Results, optimizer: str, signal: str, low: float, source: str) -> Claim:
    """A claim on the mean test accuracy of one signal under one optimiser."""
    mean = mean_interval(accuracies(results, optimizer, signal))
    name = f"{SIGNALS[signal][0].upper()}{SIGNALS[signal][1:]}"
    return Claim(
        name=f"accuracy-{optimizer}-{signal}",
        statement=f"{name} under {OPTIMIZERS[optimizer]} reaches the figure of the first prototype.",
        source=source,
        expected=f"≥ {low:g}",
        measured=mean.mean,
        low=low,
        interval=mean.interval,
        unit="",
        note=f"mean over {len(results[optimizer, signal])} seeds (split and weights), 95 % t interval",
    )


def hidden_scale_claim(results: Results) -> Claim:
    """Adam divides a layer's length out again; SGD does not: the displacement credit shows it."""
    loss = {
        optimizer: [
            b - d
            for b, d in zip(
                accuracies(results, optimizer, "backprop"), accuracies(results, optimizer, "displacement")
            )
        ]
        for optimizer in OPTIMIZERS
    }
    gap = paired_interval(loss["sgd"], loss["adam"])
    return Claim(
        name="adam-hides-scale",
        statement="What the displacement credit loses against backpropagation under SGD, Adam hides: it rescales every layer.",
        source="specification of the credit experiments",
        expected="> 0",
        measured=100 * gap.mean,
        low=0.0,
        interval=(100 * gap.low, 100 * gap.high),
        unit="points",
        note=f"paired over {len(loss['sgd'])} seeds, 95 % t interval; decided by the interval",
        decided_by="interval",
    )
