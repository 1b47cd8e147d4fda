"""Coordinate networks on pictures: the order of four encodings, and σ predicted by the tangent kernel beside trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost._table import Table
from fingerpost.errors import ConfigError, did_you_mean
from fingerpost.experiments import _image_figures as figures
from fingerpost.experiments import _image_files as files
from fingerpost.experiments import _image_fits as fits
from fingerpost.experiments.image import check_training
from fingerpost.lab import Claim, Run, derive_seed, legend_outside, mean_interval, new_figure

np = lazy_import("numpy")
torch = lazy_import("torch")
stats = lazy_import("scipy.stats")

SOURCE = "Tancik et al. 2020, arXiv:2006.10739, table 1"
OURS = "specification of the spectral experiments"
# Tancik et al. 2020, table 1, PSNR in dB on other pictures than ours: context, not an expectation.
PRINTED = {
    fits.NONE: (19.32, 18.40),
    fits.BASIC: (21.72, 20.48),
    fits.POSITIONAL: (24.95, 27.57),
    fits.GAUSSIAN: (25.57, 30.47),
}


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      seed: Gives weights, frequencies, the order of pixels, and the texts.
      pictures: Of scikit-image's wheel; the middle square is averaged down.
      texts: Pictures of text, rendered here.
      size: Pixels of a side; even. The paper has 512.
      sigmas: The σ of the sweep, and the candidates of the Gaussian encoding, in cycles per unit.
      highest: The σ among which the kernel picks for the positional encoding.
      frequencies: Frequencies of the positional and the Gaussian encoding.
      width: Units of each hidden layer.
      depth: Hidden layers; the paper counts the last layer too, and calls 3 four.
      steps: Updates of each network.
      batch: Pixels of an update; 0 takes all training pixels, as the paper does.
      learning_rate: Adam's.
      device: Where to compute.
      dtype: Precision of training.
    """

    seed: int = 0
    pictures: tuple[str, ...] = files.SAMPLES
    texts: int = 3
    size: int = 256
    sigmas: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
    highest: tuple[float, ...] = (4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
    frequencies: int = 256
    width: int = 256
    depth: int = 3
    steps: int = 2000
    batch: int = 256
    learning_rate: float = 0.001
    device: str = "cpu"
    dtype: str = "float32"


PRESETS = {
    "quick": Config(
        texts=1, size=128, sigmas=(2.0, 4.0, 8.0, 16.0, 32.0), highest=(8.0, 16.0, 32.0, 64.0), steps=250
    ),
    "full": Config(),
}


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work."""
    check_training(config)
    for name in config.pictures:
        if name not in files.SAMPLES:
            hint = did_you_mean(name, files.SAMPLES) or f"; there are {', '.join(files.SAMPLES)}"
            raise ConfigError(
                f"there is no picture {name!r}{hint}; your own: fingerpost run image --path photo.jpg"
            )
    if config.size < 32 or config.size % 2:
        raise ConfigError(f"size is {config.size}; give an even number of pixels of at least 32")
    if config.texts < 0 or len(config.pictures) + config.texts < 2:
        raise ConfigError(
            f"there are {len(config.pictures)} pictures and {config.texts} texts; at least two in all are needed"
        )
    if len(config.sigmas) < 2:
        raise ConfigError(f"sigmas is {config.sigmas}; a sweep needs at least two")
    if config.pictures:
        files.needs_samples("pictures of fourier-image")


def run(config: Config, run: Run) -> None:
    """Trains every encoding and every σ on every picture, beside what the kernel predicts, and states the claims."""
    originals = load(config)
    _describe(config, len(originals), run)
    found = {}
    for name in run.progress(originals, "pictures"):
        found[name] = one_picture(config, name, originals[name], run)
    run.table("psnr", psnr_table(config, found))
    run.table("printed", printed_table(config, found))
    for kind, names in kinds(config).items():
        if names:
            _sheet(config, kind, names, originals, found, run)
    run.figure(
        "sweep",
        sweep_figure(config, found),
        title="σ, predicted and trained",
        caption="PSNR on test pixels. Solid: trained networks; dashed: kernel regression before any training. The ring marks "
        "the trained network at the σ that the kernel picks.",
    )
    run.figure(
        "order",
        order_figure(found),
        title="PSNR by encoding",
        caption="Test pixels; a line for each picture.",
    )
    for claim in (*order_claims(found), *sigma_claims(found)):
        run.claim(claim)


def kinds(config: Config) -> dict[str, list[str]]:
    """Names of natural pictures and of texts."""
    return {"natural": list(config.pictures), "text": [f"text {k + 1}" for k in range(config.texts)]}


def load(config: Config) -> dict[str, Any]:
    """All pictures as arrays (size, size, channels)."""
    natural = {name: files.sample_picture(name, config.size) for name in config.pictures}
    texts = kinds(config)["text"]
    return natural | {
        name: files.text_picture(config.size, derive_seed(config.seed, name) % 2**32) for name in texts
    }


def one_picture(config: Config, name: str, original: Any, run: Run) -> dict[str, Any]:
    """All trainings and predictions of one picture.

    Returns:
      ``fits`` by encoding, ``sweep`` and ``predicted`` as rows of sigma and psnr, ``chosen`` σ by encoding, ``spline``.
    """
    image = torch.from_numpy(original.copy()).to(config.device, getattr(torch, config.dtype))
    recipe, seed = fits.Recipe.of(config), derive_seed(config.seed, "picture", name)
    stem = name.replace(" ", "-")
    files.write_png(run.directory / "pictures" / f"{stem}-original.png", original)
    grids = {fits.POSITIONAL: config.highest, fits.GAUSSIAN: config.sigmas}
    guesses = {
        kind: fits.predicted(image, kind, grid, recipe, seed, run, f"{stem}-sigma-{fits.STEM[kind]}")
        for kind, grid in grids.items()
    }
    chosen = {kind: fits.best_sigma(rows) for kind, rows in guesses.items()}
    results = {
        kind: fits.fit(image, kind, chosen.get(kind), recipe, seed, run, f"{stem}-{fits.STEM[kind]}")
        for kind in (fits.NONE, fits.BASIC, fits.POSITIONAL)
    }
    swept = {
        sigma: fits.fit(image, fits.GAUSSIAN, sigma, recipe, seed, run, gaussian_stage(stem, sigma))
        for sigma in config.sigmas
    }
    results[fits.GAUSSIAN] = swept[chosen[fits.GAUSSIAN]]
    return {
        "fits": results,
        "sweep": [{"sigma": s, "psnr": row["psnr_test"]} for s, row in swept.items()],
        "predicted": guesses[fits.GAUSSIAN],
        "chosen": chosen,
        "spline": fits.interpolated(image),
    }


def gaussian_stage(stem: str, sigma: float) -> str:
    """The name of one training of the sweep."""
    return f"{stem}-gaussian-{sigma:g}"


def _describe(config: Config, count: int, run: Run) -> None:
    batch = (
        f"{config.batch} pixels an update, in random order" if config.batch else "all pixels at each update"
    )
    run.text(
        "The protocol",
        f"{count} pictures of {config.size}×{config.size} pixels. A network sees every second pixel of every second row and is "
        f"tested on the pixels diagonally between them: {config.depth} hidden layers of {config.width} units, ReLU, a sigmoid "
        f"at the end, {config.frequencies} frequencies, Adam at {config.learning_rate:g}, {config.steps:,} updates, {batch}. "
        "The paper trains on 512×512 pixels with all of them at each update. σ of the positional and the Gaussian encoding is "
        "picked by the tangent kernel, for each picture, before any training. The folder pictures/ holds every "
        "reconstruction as PNG.",
    )


def _sheet(
    config: Config,
    kind: str,
    names: Sequence[str],
    originals: dict[str, Any],
    found: dict[str, Any],
    run: Run,
) -> None:
    rows = {}
    for name in names:
        stem, result = name.replace(" ", "-"), found[name]
        stages = {encoding: f"{stem}-{fits.STEM[encoding]}" for encoding in fits.ENCODINGS}
        stages[fits.GAUSSIAN] = gaussian_stage(stem, result["chosen"][fits.GAUSSIAN])
        pictures = {encoding: fits.picture_of(run, stage) for encoding, stage in stages.items()}
        errors = [
            figures.squared_error(pictures[encoding], originals[name])
            for encoding in (fits.NONE, fits.GAUSSIAN)
        ]
        window = figures.where_most(errors[0] - errors[1], figures.cut_side(config.size, config.size))
        scores = {encoding: row["psnr_test"] for encoding, row in result["fits"].items()}
        rows[name] = originals[name], pictures, scores, window
    run.figure(
        f"pictures-{kind}",
        figures.sheet(rows),
        title="Pictures" if kind == "natural" else "Texts",
        caption="Left: the whole, with the cut-out in which Gaussian features gain most over no mapping; then that cut-out of "
        "the original and of each reconstruction, with PSNR on the test pixels of the whole.",
    )


def psnr_table(config: Config, found: dict[str, Any]) -> Table:
    """One row for each picture."""
    heads = ["picture", *fits.ENCODINGS, "σ, positional", "σ, Gaussian", "cubic splines, no network"]
    rows = []
    for name, result in found.items():
        scores = [result["fits"][kind]["psnr_test"] for kind in fits.ENCODINGS]
        rows.append([name, *scores, *(result["chosen"][kind] for kind in fits.TUNED), result["spline"]])
    caption = (
        "PSNR in dB on the test pixels. Splines through the training pixels are what no learning gives: networks are "
        "continuous pictures, not the best interpolation."
    )
    return Table(heads, rows, title="PSNR by picture", caption=caption)


def printed_table(config: Config, found: dict[str, Any]) -> Table:
    """Means over our pictures beside the paper's over its own."""
    rows = []
    for encoding in fits.ENCODINGS:
        row: list[Any] = [encoding]
        for names, printed in zip(kinds(config).values(), PRINTED[encoding]):
            ours = [found[name]["fits"][encoding]["psnr_test"] for name in names]
            row += [float(np.mean(ours)) if ours else None, printed]
        rows.append(row)
    heads = ["encoding", "natural", "natural, printed", "text", "text, printed"]
    caption = (
        f"Mean PSNR in dB. Printed: {SOURCE}, on other pictures, larger ones, and its own texts; set beside ours for "
        "orientation, not as an expectation."
    )
    return Table(heads, rows, title="Beside the paper's table 1", caption=caption)


def sweep_figure(config: Config, found: dict[str, Any]) -> Any:
    """PSNR over σ, trained and predicted, natural pictures and texts apart."""
    groups = {kind: names for kind, names in kinds(config).items() if names}
    figure, axes = new_figure(1, len(groups), width=5.6 * len(groups), height=5.0, sharey=True, squeeze=False)
    for axis, (kind, names) in zip(axes[0], groups.items()):
        for name in names:
            result = found[name]
            trained, guess = ([row["psnr"] for row in result[key]] for key in ("sweep", "predicted"))
            (line,) = axis.plot(config.sigmas, trained, linestyle="-", marker="o", label=name)
            colour = line.get_color()
            axis.plot(config.sigmas, guess, linestyle="--", marker="", color=colour, linewidth=1.5)
            chosen = result["chosen"][fits.GAUSSIAN]
            at = trained[list(config.sigmas).index(chosen)]
            axis.plot([chosen], [at], marker="o", markersize=13, fillstyle="none", color=colour)
        figures.sigma_axis(axis, config.sigmas)
        axis.set_title("natural pictures" if kind == "natural" else "texts")
        axis.legend(loc="best")
    axes[0][0].set_ylabel("PSNR (dB)")
    return figure


def order_figure(found: dict[str, Any]) -> Any:
    """PSNR by encoding, a line for each picture."""
    figure, axis = new_figure(width=7.2, height=4.8)
    for name, result in found.items():
        axis.plot(
            range(4), [result["fits"][kind]["psnr_test"] for kind in fits.ENCODINGS], marker="o", label=name
        )
    axis.set_xticks(range(4), fits.ENCODINGS)
    axis.set_ylabel("PSNR (dB)")
    legend_outside(figure, axis, columns=4)
    return figure


def order_claims(found: dict[str, Any]) -> list[Claim]:
    """The three steps of table 1's order, each over pictures."""
    claims = []
    for less, more in pairwise(fits.ENCODINGS):
        gains = [r["fits"][more]["psnr_test"] - r["fits"][less]["psnr_test"] for r in found.values()]
        gain = mean_interval(gains)
        name = f"{fits.STEM[less]}-below-{fits.STEM[more]}"
        claims.append(
            Claim(
                name,
                f"{less[0].upper()}{less[1:]} gives a lower PSNR than {more}.",
                SOURCE,
                "> 0",
                gain.mean,
                low=0.0,
                interval=gain.interval,
                unit="dB",
                note=f"paired over {len(gains)} pictures, 95 % t interval, smallest {min(gains):.2f}; printed: "
                f"{PRINTED[more][0] - PRINTED[less][0]:.2f} (natural), {PRINTED[more][1] - PRINTED[less][1]:.2f} (text)",
                decided_by="interval",
            )
        )
    return claims


def sigma_claims(found: dict[str, Any]) -> list[Claim]:
    """Whether the kernel's σ is as good as the best of the sweep, and how near its predictions are."""
    losses, ranks, gaps = [], [], []
    for result in found.values():
        trained, guess = ([row["psnr"] for row in result[key]] for key in ("sweep", "predicted"))
        losses.append(max(trained) - trained[guess.index(max(guess))])
        ranks.append(float(stats.spearmanr(trained, guess).statistic))
        gaps.append(float(np.abs(np.subtract(trained, guess)).mean()))
    loss, rank = mean_interval(losses), mean_interval(ranks)
    count = len(losses)
    return [
        Claim("sigma-by-ntk", "σ picked by the tangent kernel is within 1 dB of the best trained σ, on every picture.", OURS,
              "≤ 1", max(losses), high=1.0, interval=loss.interval, unit="dB",
              note=f"the largest loss of {count} pictures; mean {loss.mean:.2f}, whose 95 % t interval is given"),
        Claim("sigma-ranked", "The kernel ranks σ as training does.", OURS, "≥ 0.8", rank.mean, low=0.8,
              interval=rank.interval, note=f"Spearman's correlation over the sweep, mean over {count} pictures; predicted and "
              f"trained PSNR differ by {float(np.mean(gaps)):.2f} dB in the mean", decided_by="interval"),
    ]  # fmt: skip
