"""What the experiments on tables share: training by the lab, densities held against baselines, pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost._table import Table, format_interval
from fingerpost.lab import Run, mean_interval, new_figure, paired_interval, train
from fingerpost.lab.style import PALETTE

np = lazy_import("numpy")
stats = lazy_import("scipy.stats")

SHOWN = 6
FLOW = "flow"


def by_lab(run: Run, stage: str) -> Callable[[Any], list[dict[str, Any]]]:
    """Carries out an estimator's `TrainingJob` by the lab's trainer, with checkpoints that a killed run goes on from."""

    def carry_out(job: Any) -> list[dict[str, Any]]:
        result = train(
            job.model,
            job.optimizer,
            job.step,
            job.batches,
            steps=job.steps,
            seed=job.seed,
            run=run,
            stage=f"{stage}-{job.name}",
            scheduler=job.scheduler,
            ema=job.ema,
            evaluate=job.evaluate,
            evaluate_every=job.evaluate_every,
            monitor="held_out",
            patience=job.patience,
            log_every=job.evaluate_every,
            extra=job.extra,
        )
        return [row for row in result.history if "held_out" in row]

    return carry_out


def nll_table(losses: Mapping[str, Any], chosen: Mapping[str, str], caption: str) -> Table:
    """Mean negative log-likelihood of held-out rows by model, and the paired difference of the flow to each.

    Args:
      losses: By model, −log p of each held-out row, in nats.
      chosen: By model, what was chosen, in words.
      caption: The table's.
    """
    rows = []
    for name, values in losses.items():
        mean, gap = mean_interval(values), paired_interval(losses[FLOW], values)
        apart = (None, None) if name == FLOW else (gap.mean, format_interval(gap.interval))
        rows.append([name, chosen.get(name, ""), mean.mean, format_interval(mean.interval), *apart])
    heads = ["density", "chosen", "NLL (nats a row)", "interval", "flow − it", "interval of it"]
    return Table(heads, rows, title="Held-out rows", caption=caption)


def curve_table(history: Sequence[Mapping[str, float]]) -> Table:
    """Held-out loss by update, a column for each member; a member that stopped early has no value there."""
    members = sorted({int(row["member"]) for row in history})
    steps = sorted({int(row["step"]) for row in history})
    found = {(int(row["step"]), int(row["member"])): row["held_out"] for row in history}
    rows = [[step, *(found.get((step, member)) for member in members)] for step in steps]
    heads = ["update", *(f"member {member + 1}" for member in members)]
    return Table(heads, rows, title="Held-out loss in training")


def marginal_tests(
    columns: Sequence[str], samples: Any, test: Any, train_rows: Any
) -> tuple[list[list[Any]], float]:
    """Kolmogorov and Smirnov's distance of each column, of samples to test rows and of training rows to test rows.

    Returns:
      Rows (column, samples to test, p, training to test), and the largest ratio of the first distance to the value
      that a tenth of equal laws exceeds.
    """
    rows, worst = [], 0.0
    for k, name in enumerate(columns):
        ours = stats.ks_2samp(samples[:, k], test[:, k])
        theirs = stats.ks_2samp(train_rows[:, k], test[:, k])
        rows.append([name, float(ours.statistic), float(ours.pvalue), float(theirs.statistic)])
        limit = 1.22 * math.sqrt(1 / len(samples) + 1 / len(test))
        worst = max(worst, float(ours.statistic) / limit)
    return rows, worst


def permutation_test(x: Any, y: Any, seed: int, rounds: int = 500, most: int = 600) -> tuple[float, float]:
    """The unbiased MMD² of two samples on common standardised columns, and its p value by permutation."""
    generator = np.random.default_rng(seed)
    x, y = (part[generator.permutation(len(part))[:most]] for part in (x, y))
    pooled = np.concatenate([x, y])
    pooled = (pooled - pooled.mean(0)) / np.maximum(pooled.std(0), 1e-300)
    squares = (pooled**2).sum(1)[:, None] + (pooled**2).sum(1) - 2 * pooled @ pooled.T
    kernel = np.exp(-squares / (2 * np.median(squares[np.triu_indices(len(pooled), 1)])))
    np.fill_diagonal(kernel, 0.0)
    n, m = len(x), len(y)

    def statistic(order: Any) -> float:
        side = np.zeros(n + m)
        side[order[:n]] = 1.0
        cross = kernel @ side
        within, between = side @ cross, (1 - side) @ cross
        other = kernel.sum() - within - 2 * between
        return float(within / (n * (n - 1)) + other / (m * (m - 1)) - 2 * between / (n * m))

    ours = statistic(np.arange(n + m))
    null = [statistic(generator.permutation(n + m)) for _ in range(rounds)]
    return ours, (1 + sum(value >= ours for value in null)) / (1 + rounds)


def nearest_ratio(samples: Any, test: Any, train_rows: Any) -> float:
    """Median distance of samples to their nearest training row, over that of test rows; far below 1 means copies."""
    mean, std = train_rows.mean(0), train_rows.std(0)
    train_z, sample_z, test_z = ((part - mean) / std for part in (train_rows[:10_000], samples, test))
    return float(_nearest(sample_z[:1000], train_z) / _nearest(test_z[:1000], train_z))


def _nearest(x: Any, y: Any) -> float:
    squares = (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T
    return float(np.median(np.sqrt(np.maximum(squares.min(1), 0))))


def pair_figure(columns: Sequence[str], rows: Any, samples: Any) -> Any:
    """Scatter plots of up to six columns, data below the diagonal and samples above, histograms of both on it."""
    count = min(SHOWN, len(columns))
    figure, axes = new_figure(count, count, width=2.1 * count + 0.8, height=2.0 * count + 1.0, squeeze=False)
    limits = [_limits(rows[:, k]) for k in range(count)]
    most = min(1000, len(rows))  # as many dots on both sides
    for i in range(count):
        for j in range(count):
            axis = axes[i][j]
            axis.grid(False)
            axis.tick_params(labelsize=9)
            axis.set_xlim(*limits[j])
            axis.locator_params(nbins=3)
            if i == j:
                _histograms(axis, rows[:, i], samples[:, i], limits[i])
                axis.set_yticks([])
            else:
                source, color = (rows, PALETTE[0]) if i > j else (samples, PALETTE[1])
                axis.plot(
                    source[:most, j], source[:most, i], ".", ms=2.5, alpha=0.5, color=color, linestyle=""
                )
                axis.set_ylim(*limits[i])
            axis.tick_params(labelbottom=i == count - 1, labelleft=j == 0 and i != j)
            if i == count - 1:
                axis.set_xlabel(_short(columns[j]), fontsize=11)
            if j == 0:
                axis.set_ylabel(_short(columns[i]), fontsize=11)
    return figure


def marginals_figure(columns: Sequence[str], rows: Any, samples: Any) -> Any:
    """Histograms of every column, of data and of samples."""
    across = min(4, len(columns))
    down = -(-len(columns) // across)
    figure, axes = new_figure(down, across, width=3.0 * across, height=2.3 * down + 0.6, squeeze=False)
    for k, axis in enumerate(axes.flat):
        if k >= len(columns):
            axis.set_visible(False)
            continue
        limits = _limits(rows[:, k])
        _histograms(axis, rows[:, k], samples[:, k], limits)
        axis.set(xlim=limits, yticks=[])
        axis.locator_params(axis="x", nbins=4)
        axis.tick_params(labelsize=10)
        axis.set_title(_short(columns[k], 26), fontsize=11)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def _histograms(axis: Any, rows: Any, samples: Any, limits: tuple[float, float]) -> None:
    bins = np.linspace(*limits, 31)
    axis.hist(rows, bins, density=True, color=PALETTE[0], alpha=0.45, label="data")
    axis.hist(samples, bins, density=True, histtype="step", color=PALETTE[1], linewidth=1.6, label="samples")


def _limits(values: Any) -> tuple[float, float]:
    low, high = np.quantile(values, [0.005, 0.995])
    margin = 0.08 * (high - low) or 0.5
    return float(low - margin), float(high + margin)


def _short(name: str, most: int = 14) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
