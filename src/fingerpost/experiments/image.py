"""A picture of your own, learnt by coordinate networks with and without Fourier features."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost._table import Table
from fingerpost.errors import ConfigError
from fingerpost.experiments import _image_figures as figures
from fingerpost.experiments import _image_files as files
from fingerpost.experiments import _image_fits as fits
from fingerpost.lab import Claim, Run, mean_interval

np = lazy_import("numpy")
torch = lazy_import("torch")

SOURCE = "Tancik et al. 2020, arXiv:2006.10739, section 6 and table 1"
TILE = 8  # pixels of a side of the squares over which errors are averaged before an interval is made of them


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      path: Your picture: PNG, JPEG, TIFF, WebP, … Without, scikit-image's astronaut.
      largest: Pixels of its longer side; a larger picture is averaged down.
      seed: Gives weights, frequencies and the order of pixels.
      sigmas: The σ of the Gaussian encoding among which the tangent kernel picks, in cycles per unit.
      highest: The σ of the positional encoding among which it picks: nearly its highest frequency.
      frequencies: Frequencies of the positional and the Gaussian encoding.
      width: Units of each hidden layer.
      depth: Hidden layers.
      steps: Updates of each network.
      batch: Pixels of an update; 0 takes all training pixels.
      learning_rate: Adam's.
      device: Where to compute.
      dtype: Precision of training.
    """

    path: str = ""
    largest: int = 384
    seed: int = 0
    sigmas: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
    highest: tuple[float, ...] = (4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
    frequencies: int = 256
    width: int = 256
    depth: int = 3
    steps: int = 2000
    batch: int = 1024
    learning_rate: float = 0.001
    device: str = "cpu"
    dtype: str = "float32"


PRESETS = {"quick": Config(largest=128, steps=600, batch=512), "full": Config()}


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work, among them a picture that can't be read; imports no torch."""
    check_training(config)
    if config.largest < 32:
        raise ConfigError(f"largest is {config.largest}; at least 32 pixels are needed")
    if config.path:
        files.check_own(config.path)
    else:
        files.needs_samples("the built-in picture")


def check_training(config: Any) -> None:
    """Raises ConfigError for sizes and scales out of range."""
    for name in ("frequencies", "width", "depth", "steps"):
        if getattr(config, name) < 1:
            raise ConfigError(f"{name} is {getattr(config, name)}; it must be at least 1")
    if config.frequencies % 2:
        raise ConfigError(
            f"frequencies is {config.frequencies}; it must be even: half for each axis of the positional encoding"
        )
    if config.batch < 0:
        raise ConfigError(f"batch is {config.batch}; give pixels of an update, or 0 for all")
    if not config.learning_rate > 0:
        raise ConfigError(f"learning_rate is {config.learning_rate}; it must be above 0")
    for name in ("sigmas", "highest"):
        if not getattr(config, name) or min(getattr(config, name)) <= 0:
            raise ConfigError(f"{name} is {getattr(config, name)}; give positive numbers of cycles per unit")


def run(config: Config, run: Run) -> None:
    """Picks σ, trains, draws, writes the reconstructions, and states the claims."""
    original, name = _picture(config)
    files.write_png(run.directory / "pictures" / "original.png", original)
    image = torch.from_numpy(original.copy()).to(config.device, getattr(torch, config.dtype))
    _describe(config, name, original, run)
    recipe = fits.Recipe.of(config)
    grids = {fits.POSITIONAL: config.highest, fits.GAUSSIAN: config.sigmas}
    guesses = {
        kind: fits.predicted(image, kind, grid, recipe, config.seed, run, f"sigma-{fits.STEM[kind]}")
        for kind, grid in grids.items()
    }
    chosen = {kind: fits.best_sigma(rows) for kind, rows in guesses.items()}
    found = {}
    for kind in run.progress(fits.ENCODINGS, "encodings"):
        stage = fits.STEM[kind]
        found[kind] = fits.fit(image, kind, chosen.get(kind), recipe, config.seed, run, stage)
    pictures = {kind: fits.picture_of(run, fits.STEM[kind]) for kind in fits.ENCODINGS}
    _show(original, pictures, found, run)
    run.table("psnr", _table(found, guesses, chosen, fits.interpolated(image)))
    run.figure(
        "sigma",
        figures.choice(guesses, chosen),
        title="σ by the tangent kernel, before any training",
        caption="PSNR on the test pixels by kernel ridge regression with the kernel of an infinitely wide network; the ring "
        "marks the σ that is trained.",
    )
    for claim in claims(original, pictures, found):
        run.claim(claim)


def _picture(config: Config) -> tuple[Any, str]:
    if config.path:
        return files.own_picture(config.path, config.largest), Path(config.path).name
    return files.sample_picture("astronaut", config.largest), "scikit-image's astronaut"


def _describe(config: Config, name: str, original: Any, run: Run) -> None:
    height, width, channels = original.shape
    pixels = -(-height // 2) * -(-width // 2)
    batch = f"{config.batch:,} pixels an update" if config.batch else "all pixels at each update"
    run.text(
        "What is trained",
        f"{name}, {width}×{height} pixels here, {'gray' if channels == 1 else 'colour'}. Networks from coordinates to colours "
        f"see every second pixel of every second row ({pixels:,}) and are tested on the pixels diagonally between them: "
        f"{config.depth} hidden layers of {config.width} units, ReLU, a sigmoid at the end, Adam, {config.steps:,} updates, "
        f"{batch}. The folder pictures/ in the run's folder holds the original and each reconstruction as PNG.",
    )


def _show(original: Any, pictures: dict[str, Any], found: dict[str, Any], run: Run) -> None:
    scores = {kind: row["psnr_test"] for kind, row in found.items()}
    errors = [figures.squared_error(pictures[kind], original) for kind in (fits.NONE, fits.GAUSSIAN)]
    window = figures.where_most(errors[0] - errors[1], figures.cut_side(*original.shape[:2]))
    run.figure(
        "reconstructions",
        figures.comparison(original, pictures, scores, window),
        title="Original and reconstructions",
        caption="Top: whole pictures, with PSNR on the test pixels. Middle: the cut-out in which Gaussian features gain most "
        "over bare coordinates. Bottom: root of the mean squared error of each pixel's channels.",
    )
    run.figure(
        "curves",
        figures.learning_curves({kind: row["curve"] for kind, row in found.items()}),
        title="Learning curves",
        caption="PSNR of pixels that are trained on, and of pixels between them.",
    )


def _table(found: dict[str, Any], guesses: dict[str, Any], chosen: dict[str, float], spline: float) -> Table:
    rows = []
    for kind, row in found.items():
        guess = max((r["psnr"] for r in guesses.get(kind, ())), default=None)
        rows.append([kind, chosen.get(kind), row["psnr_train"], row["psnr_test"], guess])
    rows.append(["cubic splines, no network", None, None, spline, None])
    heads = ["encoding", "σ", "PSNR, training pixels", "PSNR, test pixels", "predicted by the kernel"]
    caption = (
        "In dB. σ in cycles per unit, picked by the kernel. Splines through the training pixels are what no learning gives: "
        "networks are continuous pictures, not the best interpolation."
    )
    return Table(heads, rows, title="PSNR by encoding", caption=caption)


def claims(original: Any, pictures: dict[str, Any], found: dict[str, Any]) -> list[Claim]:
    """Whether features help on this picture, over its tiles, and whether the paper's order holds."""
    errors = {kind: _by_tile(figures.squared_error(picture, original)) for kind, picture in pictures.items()}
    gain = mean_interval(1e3 * (errors[fits.NONE] - errors[fits.GAUSSIAN]))
    scores = [found[kind]["psnr_test"] for kind in fits.ENCODINGS]
    steps = [b - a for a, b in pairwise(scores)]
    smallest = min(range(3), key=steps.__getitem__)
    pair = f"{fits.ENCODINGS[smallest]} to {fits.ENCODINGS[smallest + 1]}"
    return [
        Claim("features-help", "Gaussian features lower the error of bare coordinates on this picture.", SOURCE, "> 0",
              gain.mean, low=0.0, interval=gain.interval, unit="10⁻³, squared error",
              note=f"test pixels, paired over {len(errors[fits.NONE])} tiles of {TILE}×{TILE} pixels, 95 % t interval",
              decided_by="interval"),
        Claim("order", "No mapping < basic < positional < Gaussian in PSNR between the training pixels.", SOURCE, "> 0",
              steps[smallest], low=0.0, unit="dB",
              note=f"the smallest step of the three, {pair}; one picture and one seed: fourier-image has more"),
    ]  # fmt: skip


def _by_tile(error: Any) -> Any:
    """Means of the test pixels' squared error over tiles, (tiles,)."""
    between = error[1::2, 1::2]
    side = max(1, min(TILE // 2, *between.shape))
    rows, columns = (n // side for n in between.shape)
    cut = between[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return cut.mean((1, 3)).ravel()
