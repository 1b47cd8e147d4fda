"""A density of your own table by flow matching: fitted, held against baselines, sampled."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fingerpost._lazy import lazy_import, require_extra
from fingerpost._table import Table
from fingerpost.errors import ConfigError, FingerpostError
from fingerpost.experiments import _flow_baselines as densities
from fingerpost.experiments import _flow_tables as shared
from fingerpost.lab import Claim, Run, derive_seed, paired_interval

np = lazy_import("numpy")
flow = lazy_import("fingerpost.flow")

SOURCE = "specification of the flow experiments"
MOST_SCORED = 4_000
SUFFIXES = (".csv", ".tsv", ".txt", ".npy", ".npz", ".parquet")


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      data: Your table, one sample a row: .csv, .tsv, .txt, .npy, .npz or .parquet. Without, scikit-learn's wine.
      columns: Names of the columns to keep, separated by commas; all unless given.
      drop_text: Leave columns of text out, instead of refusing them.
      drop_missing: Leave rows with missing values out, instead of refusing them.
      seed: Gives split, weights and noise.
      tests: Fraction of rows held out for testing.
      samples: Rows to draw into samples.csv; as many as the table has (1,000 to 10,000) unless given.
      members: Fields that are trained and averaged.
      width: Units of a layer; by the number of rows unless given.
      depth: Residual blocks.
      steps: Updates of each member, at most; training stops early by itself.
      batch_size: Rows per update.
      learning_rate: AdamW's learning rate.
      dropout: Fraction of units that training drops.
      noise: Standard deviation of noise on the scaled rows, which smooths the density.
      scaling: "power" (Yeo–Johnson) or "linear" scaling of columns.
      device: Where to compute.
    """

    data: str = ""
    columns: str = ""
    drop_text: bool = False
    drop_missing: bool = False
    seed: int = 0
    tests: float = 0.2
    samples: int = 0
    members: int = 4
    width: int = 0
    depth: int = 2
    steps: int = 8000
    batch_size: int = 256
    learning_rate: float = 0.002
    dropout: float = 0.0
    noise: float = 0.0
    scaling: str = "power"
    device: str = "cpu"


PRESETS = {"quick": Config(members=1, steps=2000), "full": Config()}


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work, among them a missing file."""
    if config.data:
        path = Path(config.data).expanduser()
        if not path.is_file():
            raise ConfigError(
                f"there is no file {config.data!r}; --data takes a table: {', '.join(SUFFIXES)}"
            )
        if path.suffix.lower() not in SUFFIXES:
            raise ConfigError(
                f"{config.data} ends in {path.suffix!r}; --data takes a table: {', '.join(SUFFIXES)}"
            )
        if path.suffix.lower() == ".parquet":
            _needs("duckdb", "table", "reading Parquet")
    _needs("sklearn", "data", "the baselines that a flow is held against, and for the built-in table")
    if not 0 < config.tests < 1:
        raise ConfigError(f"tests is {config.tests}; the fraction of rows held out lies between 0 and 1")
    for name in ("members", "depth", "steps", "batch_size"):
        if getattr(config, name) < 1:
            raise ConfigError(f"{name} is {getattr(config, name)}; it must be at least 1")
    if config.scaling not in ("power", "linear"):
        raise ConfigError(f"scaling is {config.scaling!r}; it is 'power' or 'linear'")


def _needs(module: str, extra: str, purpose: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ConfigError(f"{module} is needed for {purpose}: pip install 'fingerpost[{extra}]' brings it")


def load(config: Config) -> Any:
    """The table as a `NumericTable`; what is wrong with a file is a ConfigError."""
    if not config.data:
        datasets = require_extra(
            "sklearn.datasets", "data", "the wines (they are inside scikit-learn's wheel)"
        )
        wine = datasets.load_wine()
        return flow.NumericTable(tuple(name.replace("/", " ") for name in wine.feature_names), wine.data)
    names = [name.strip() for name in config.columns.split(",") if name.strip()]
    try:
        return flow.read_table(
            config.data, columns=names, drop_text=config.drop_text, drop_missing=config.drop_missing
        )
    except FingerpostError as error:
        raise ConfigError(
            str(error).replace("drop_text", "--drop-text").replace("drop_missing", "--drop-missing")
        ) from error


def split(rows: int, config: Config) -> tuple[Any, Any]:
    """Numbers of the rows to train on and to test on."""
    tests = round(config.tests * rows)
    if tests < 2 or rows - tests < 10:
        raise ConfigError(
            f"the table has {rows} rows: at least 10 are needed to train on and 2 to test on; change --tests"
        )
    order = np.random.default_rng(derive_seed(config.seed, "split")).permutation(rows)
    return order[tests:], order[:tests]


def run(config: Config, run: Run) -> None:
    """Fits, scores, samples, draws, and states the claims."""
    table = load(config)
    ours, theirs = split(len(table), config)
    train, test = table.values[ours], table.values[theirs]
    _describe(config, table, len(ours), len(theirs), run)
    estimator = _fitted(config, table, train, run)
    _score(config, estimator, train, test, run)
    samples = _sampled(config, estimator, table, run)
    _compare(config, table, samples, train, test, run)


def _describe(config: Config, table: Any, ours: int, theirs: int, run: Run) -> None:
    name = Path(config.data).name if config.data else "scikit-learn's wine table"
    left = f" Left out as text: {', '.join(table.dropped)}." if table.dropped else ""
    lost = f" Left out for missing values: {table.dropped_rows} rows." if table.dropped_rows else ""
    run.text(
        "The table",
        f"{name}: {len(table)} rows and {len(table.columns)} columns; {ours} rows to train on, of which some are held out "
        f"for early stopping, and {theirs} to test on.{left}{lost}",
    )


def _fitted(config: Config, table: Any, train: Any, run: Run) -> Any:
    """The estimator, trained once in the run's life and kept in its folder."""
    path = run.directory / "estimator.safetensors"

    def work() -> list[dict[str, float]]:
        estimator = flow.FlowEstimator(
            width=config.width or None,
            depth=config.depth,
            steps=config.steps,
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            dropout=config.dropout,
            noise=config.noise,
            members=config.members,
            scaling=config.scaling,
            device=config.device,
            random_state=derive_seed(config.seed, "estimator") % 2**31,
        )
        try:
            estimator.fit(flow.NumericTable(table.columns, train), train=shared.by_lab(run, "fit"))
        except FingerpostError as error:
            raise ConfigError(f"the table has no density: {error}") from error
        estimator.save(path)
        return estimator.history_

    history = run.once("fit", work)
    curve = shared.curve_table(history)
    run.curve(
        "held-out",
        curve,
        x="update",
        series=curve.columns[1:],
        title="Held-out loss in training",
        caption="Flow-matching loss on the rows held out for early stopping; the best weights of each member are kept.",
        x_label="update",
        y_label="held-out loss",
    )
    return flow.FlowEstimator.load(path)


def _score(config: Config, estimator: Any, train: Any, test: Any, run: Run) -> None:
    """Held-out NLL of the flow and of the baselines, all on rows spread over what they were rounded to."""
    generator = np.random.default_rng(derive_seed(config.seed, "dequantize"))
    gaps, test = estimator.resolutions_, test[:MOST_SCORED]
    spread = [rows + gaps * generator.uniform(-0.5, 0.5, rows.shape) for rows in (train, test)]
    models = densities.fit_baselines(spread[0], derive_seed(config.seed, "baselines") % 2**31)
    names = flow.NumericTable(estimator.columns_, spread[1])
    losses = {shared.FLOW: -estimator.score_samples(names)}
    losses |= {name: -log_density(spread[1]) for name, (log_density, _) in models.items()}
    chosen = {name: words for name, (_, words) in models.items()}
    chosen[shared.FLOW] = f"{config.members} × {estimator.width_} units"
    caption = (
        f"Mean −log p over {len(test)} test rows with 95 % t intervals, and paired differences by row; less is better. "
        "Mixtures by the Bayesian information criterion; kernel width and shape by leave-one-out likelihood. "
        "Straightened: after the flow's own transform of each column. Columns that were rounded are spread over what "
        f"they were rounded to ({int((gaps > 0).sum())} of {len(gaps)}), for all models alike."
    )
    run.table("nll", shared.nll_table(losses, chosen, caption))
    for name in ("Gaussian", "Gaussian mixture", "kernel density"):
        gap = paired_interval(losses[shared.FLOW], losses[name])
        run.claim(
            Claim(
                name=f"beats-{name.lower().replace(' ', '-')}",
                statement=f"Rows that it has not seen are likelier under the flow than under the {name}.",
                source=SOURCE,
                expected="≤ 0",
                measured=gap.mean,
                high=0.0,
                interval=gap.interval,
                unit="nats a row",
                note=f"flow − {name} ({chosen[name]}), paired over {len(test)} test rows",
            )
        )


def _sampled(config: Config, estimator: Any, table: Any, run: Run) -> Any:
    count = config.samples or min(10_000, max(1_000, len(table)))
    samples = estimator.sample(count, random_state=derive_seed(config.seed, "samples") % 2**31)
    rounded = [v if d is None else np.round(v, d) for v, d in zip(samples.T, table.decimals)]
    flow.write_table(run.directory / "samples.csv", table.columns, samples, table.decimals)
    run.text(
        "The samples",
        f"samples.csv in the run's folder has {count} rows with the table's column names, rounded as the table is; "
        "estimator.safetensors is the fitted density: fingerpost.flow.FlowEstimator.load(path).",
    )
    return np.stack(rounded, 1)


def _compare(config: Config, table: Any, samples: Any, train: Any, test: Any, run: Run) -> None:
    """Pictures, two-sample tests, and the search for copies."""
    everything = np.concatenate([train, test])
    shown = "" if len(table.columns) <= shared.SHOWN else f", the first {shared.SHOWN} columns"
    run.figure(
        "pairs",
        shared.pair_figure(table.columns, everything, samples),
        title="Pairs of columns",
        caption=f"Below the diagonal the table, above it samples{shown}; on it both (filled: table, line: samples).",
    )
    run.figure(
        "marginals",
        shared.marginals_figure(table.columns, everything, samples),
        title="Each column",
        caption="Histograms of the table and of the samples; the axis covers 99 % of the table.",
    )
    rows, worst = shared.marginal_tests(table.columns, samples, test, train)
    heads = ["column", "KS, samples to test rows", "p", "KS, training to test rows"]
    caption = "Kolmogorov and Smirnov's distance between distribution functions; the last column is what a perfect model has."
    run.table("columns", Table(heads, rows, title="Each column, tested", caption=caption))
    seed = derive_seed(config.seed, "permutation") % 2**31
    value, p = shared.permutation_test(samples, test, seed)
    base, _ = shared.permutation_test(train, test, seed)
    ratio = shared.nearest_ratio(samples, test, train)
    run.claim(
        Claim(
            name="same-law",
            statement="Samples can't be told from test rows by their maximum mean discrepancy.",
            source=SOURCE,
            expected="p ≥ 0.01",
            measured=p,
            low=0.01,
            note=f"MMD² {value:.2g} with the median kernel, by permutation; training rows to test rows: {base:.2g}; largest "
            f"column's KS distance is {worst:.2f} of the value that 10 % of equal laws exceed",
        )
    )
    run.claim(
        Claim(
            name="no-copies",
            statement="Samples are no copies of training rows.",
            source=SOURCE,
            expected="≥ 0.5",
            measured=ratio,
            low=0.5,
            note="median distance of samples to their nearest training row, over that of test rows; standardised columns",
        )
    )
