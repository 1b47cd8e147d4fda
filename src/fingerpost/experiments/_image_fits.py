"""What the picture experiments share: encodings by name, σ by kernel regression, fits that a killed run goes on with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fingerpost._lazy import lazy_import
from fingerpost.experiments._image_files import read_png, write_png
from fingerpost.lab import Run, derive_seed

np = lazy_import("numpy")
torch = lazy_import("torch")
spectral = lazy_import("fingerpost.spectral")
ndimage = lazy_import("scipy.ndimage")
trainer = lazy_import("fingerpost.lab.trainer")

NONE, BASIC, POSITIONAL, GAUSSIAN = "no mapping", "basic", "positional", "Gaussian"
ENCODINGS = (NONE, BASIC, POSITIONAL, GAUSSIAN)
TUNED = (POSITIONAL, GAUSSIAN)
RIDGE = 0.1  # of the kernel's diagonal: stands for training that stops, set on the astronaut and one text before the runs
STEM = {NONE: "none", BASIC: "basic", POSITIONAL: "positional", GAUSSIAN: "gaussian"}


class Recipe(NamedTuple):
    """How each network is trained; the fields are those of the experiments' settings."""

    frequencies: int
    width: int
    depth: int
    steps: int
    batch: int
    learning_rate: float

    @classmethod
    def of(cls, config: Any) -> Recipe:
        """The recipe in an experiment's settings."""
        return cls(*(getattr(config, name) for name in cls._fields))


def encoding_of(kind: str, sigma: float | None, frequencies: int, seed: int) -> Any:
    """The encoding of two coordinates; frequencies of "Gaussian" are drawn from the seed alone."""
    features = spectral.FourierFeatures
    if kind == BASIC:
        return features.basic(2)
    if kind == POSITIONAL:
        return features.positional(2, frequencies, sigma)
    if kind == GAUSSIAN:
        generator = torch.Generator().manual_seed(derive_seed(seed, "frequencies"))
        return features.gaussian(2, frequencies, sigma, generator)
    return None


def by_lab(run: Run, stage: str, label: str = "") -> Callable[[Any], list[dict[str, Any]]]:
    """Carries out an `ImageJob` by the lab's trainer, with checkpoints that a killed run goes on from, and a bar."""

    def carry_out(job: Any) -> list[dict[str, Any]]:
        ticks = iter(run.progress(range(job.steps), label or stage))

        def batches(k: int) -> Any:
            while next(ticks, k) < k:  # the bar catches up with a run that goes on
                pass
            return job.batches(k)

        result = trainer.train(
            job.model, job.optimizer, job.step, batches, steps=job.steps, seed=job.seed, run=run, stage=stage,
            evaluate=job.evaluate, evaluate_every=job.evaluate_every, log_every=job.evaluate_every, throw=True,
        )  # fmt: skip
        next(ticks, None)
        return [row for row in result.history if "psnr_test" in row]

    return carry_out


def fit(
    image: Any, kind: str, sigma: float | None, recipe: Recipe, seed: int, run: Run, stage: str
) -> dict[str, Any]:
    """Fits one network once in the run's life, and keeps its picture as ``pictures/<stage>.png``.

    Returns:
      encoding, sigma, psnr_train, psnr_test, and the curve: rows of step, PSNR on training and on test pixels.
    """

    def work() -> dict[str, Any]:
        label = kind if sigma is None else f"{kind}, σ = {sigma:g}"
        fitted = spectral.fit_image(
            image,
            encoding_of(kind, sigma, recipe.frequencies, seed),
            width=recipe.width,
            depth=recipe.depth,
            steps=recipe.steps,
            learning_rate=recipe.learning_rate,
            batch=recipe.batch or None,
            generator=torch.Generator().manual_seed(derive_seed(seed, "fit")),
            train=by_lab(run, f"{stage}-train", label),
        )
        write_png(run.directory / "pictures" / f"{stage}.png", fitted.reconstruction.cpu().numpy())
        curve = [[row["step"], row["psnr_train"], row["psnr_test"]] for row in fitted.curve]
        scores = {"psnr_train": fitted.psnr_train, "psnr_test": fitted.psnr_test}
        return {"encoding": kind, "sigma": sigma, **scores, "curve": curve}

    return run.once(stage, work)


def picture_of(run: Run, stage: str) -> Any:
    """The picture that `fit` kept, (height, width, channels) in [0, 1]."""
    return read_png(run.directory / "pictures" / f"{stage}.png")


def predicted(
    image: Any, kind: str, sigmas: Sequence[float], recipe: Recipe, seed: int, run: Run, stage: str
) -> list[dict[str, float]]:
    """What the tangent kernel predicts for each σ before any training, computed once in the run's life.

    Returns:
      Rows of sigma and psnr, on the test pixels.
    """

    def work() -> list[dict[str, float]]:
        if kind == POSITIONAL:
            return [{"sigma": float(s), "psnr": _positional(image, s, recipe)} for s in sigmas]
        options: dict[str, Any] = {"features": recipe.frequencies, "depth": recipe.depth, "ridge": RIDGE}
        found = spectral.select_sigma(image, sigmas, seed=derive_seed(seed, "frequencies"), **options)
        return [{"sigma": s, "psnr": value} for s, value in zip(found.candidates, found.psnr())]

    return run.once(stage, work)


def _positional(image: Any, sigma: float, recipe: Recipe) -> float:
    """What `select_sigma` computes for the Gaussian encoding: kernel ridge regression by FFT, for the positional one."""
    y, wanted = (image[k::2, k::2].double().cpu() for k in (0, 1))
    size = image.shape[:2]
    encoding = encoding_of(POSITIONAL, sigma, recipe.frequencies, 0)
    options: dict[str, Any] = {"depth": recipe.depth, "spacing": [2 / n for n in size]}
    kernel = spectral.StationaryNTK.on_grid(encoding, y.shape[:2], **options)
    unit = torch.zeros(y.shape[:2], dtype=torch.float64)
    unit[0, 0] = 1.0
    ridge = RIDGE * float(kernel.matvec(unit)[0, 0])
    mean = y.mean((0, 1))
    weights = kernel.solve(y - mean, ridge, tolerance=1e-4, throw=False).weights
    return spectral.psnr(mean + kernel.cross_matvec(weights, [1 / n for n in size], wanted.shape[:2]), wanted)


def best_sigma(rows: Sequence[dict[str, float]]) -> float:
    """The σ of the highest predicted PSNR."""
    return max(rows, key=lambda row: row["psnr"])["sigma"]


def interpolated(image: Any) -> float:
    """PSNR on the test pixels of cubic splines through the training pixels: what no network is needed for."""
    known, wanted = image[::2, ::2].cpu().numpy(), image[1::2, 1::2].cpu().numpy()
    rows, columns = np.meshgrid(*(np.arange(n) + 0.5 for n in wanted.shape[:2]), indexing="ij")
    channels = [
        ndimage.map_coordinates(known[..., k], [rows, columns], order=3, mode="nearest")
        for k in range(known.shape[-1])
    ]
    guess = np.stack(channels, -1).clip(0, 1)
    return -10 * math.log10(float(((guess - wanted).astype(np.float64) ** 2).mean()))
