"""Equilibrium propagation on MNIST: the digits' comparison at 28×28, on files that the user has."""

from __future__ import annotations

import gzip
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost.errors import ConfigError
from fingerpost.experiments import _training as training
from fingerpost.lab import Claim, Run, derive_seed, paired_interval

np = lazy_import("numpy")
torch = lazy_import("torch")

HOW_TO_GET = (
    "give --data a folder with train-images-idx3-ubyte and train-labels-idx1-ubyte (and t10k-… for testing), gzipped or "
    "not, as torchvision, Keras and the data set's mirrors have them; or an .npz file with x (N, 784) or (N, 28, 28) and y "
    "(N,), or x_train, y_train, x_test, y_test (Keras's mnist.npz)"
)
SIGNALS = ("backprop", "error", "displacement", "direct-feedback")


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      data: A folder with MNIST's IDX files, or an .npz file.
      seed: First seed; seeds, seed + 1, … give subset and weights of each repetition.
      seeds: Repetitions, for the intervals over seeds.
      examples: Training images, drawn at random.
      tests: Test images.
      depth: Residual blocks.
      width: Units per block.
      epochs: Passes over the training images.
      batch_size: Images per update.
      beta: Strength of the displacement credit's nudge (the source's 0.5).
      error_beta: Strength of the error credit's nudges; its distance to the gradient grows like its square.
      steps: Steps of the nudged phase's gradient descent.
      adam_rate: Adam's learning rate.
      sgd_rate: SGD's learning rate.
      ema: Decay of the moving average of the weights that is tested.
      device: Where to compute.
      dtype: Precision of training.
    """

    data: str = ""
    seed: int = 0
    seeds: int = 5
    examples: int = 20_000
    tests: int = 3_000
    depth: int = 6
    width: int = 128
    epochs: int = 5
    batch_size: int = 128
    beta: float = 0.5
    error_beta: float = 0.05
    steps: int = 20
    adam_rate: float = 0.001
    sgd_rate: float = 0.1
    ema: float = 0.99
    device: str = "cpu"
    dtype: str = "float32"


PRESETS = {"quick": Config(seeds=2, examples=4_000, tests=1_000, epochs=4), "full": Config()}


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work, among them missing files."""
    if not config.data:
        raise ConfigError(f"ep-mnist reads your own files, and --data is not given: {HOW_TO_GET}")
    path = Path(config.data).expanduser()
    if not path.exists():
        raise ConfigError(f"there is no file or folder {config.data!r}: {HOW_TO_GET}")
    if not 0 < config.ema < 1:
        raise ConfigError(f"ema is {config.ema}; the decay of an average lies between 0 and 1")
    if config.seeds < 2:
        raise ConfigError(f"seeds is {config.seeds}; at least 2 are needed for an interval")
    if path.is_dir():
        _idx_file(path, "train-images")
        _idx_file(path, "train-labels")


def _idx_file(folder: Path, stem: str) -> Path:
    for name in (
        f"{stem}-idx{3 if 'images' in stem else 1}-ubyte",
        f"{stem}.idx{3 if 'images' in stem else 1}-ubyte",
    ):
        for candidate in (folder / name, folder / f"{name}.gz"):
            if candidate.is_file():
                return candidate
    raise ConfigError(f"{folder} has no {stem}-idx…-ubyte (or .gz): {HOW_TO_GET}")


def read_idx(path: Path) -> Any:
    """Reads one IDX file of unsigned bytes, gzipped or not.

    Returns:
      A uint8 array of the shape that the file states.

    Raises:
      ConfigError: If it is no IDX file of bytes, or shorter or longer than its header says; nothing is guessed.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise ConfigError(
            f"{path} is no IDX file of unsigned bytes: it begins with {raw[:4].hex()}, not 000008…"
        )
    head = 4 + 4 * raw[3]
    shape = struct.unpack(f">{raw[3]}I", raw[4:head]) if len(raw) >= head else ()
    expected = head + int(np.prod(shape, dtype=np.int64))
    if not shape or len(raw) != expected:
        raise ConfigError(
            f"{path} holds {len(raw)} bytes; its header {shape} asks for {expected}: copy it again"
        )
    return np.frombuffer(raw, dtype=np.uint8, offset=head).reshape(shape)


def read_npz(path: Path) -> tuple[Any, Any, Any, Any]:
    """Reads x, y (split by us) or x_train, y_train, x_test, y_test from an .npz file; test parts may be None.

    Raises:
      ConfigError: If it is no .npz file, or has none of these names; the message lists what it has.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = set(archive.files)
            if {"x_train", "y_train"} <= names:
                parts = [
                    archive[k] if k in names else None for k in ("x_train", "y_train", "x_test", "y_test")
                ]
            elif {"x", "y"} <= names:
                parts = [archive["x"], archive["y"], None, None]
            else:
                raise ConfigError(f"{path} has arrays {sorted(names)}: {HOW_TO_GET}")
    except (OSError, ValueError, EOFError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path} cannot be read as .npz: {error}") from error
    return parts[0], parts[1], parts[2], parts[3]


@lru_cache(maxsize=1)
def images(data: str) -> tuple[Any, Any, Any, Any]:
    """Images (N, 784) in [0, 1] and labels (N,), for training and, where the files have them, for testing (or None)."""
    path = Path(data).expanduser()
    if path.is_dir():
        parts: tuple[Any, ...] = tuple(
            read_idx(_idx_file(path, f"train-{part}")) for part in ("images", "labels")
        )
        try:
            parts += tuple(read_idx(_idx_file(path, f"t10k-{part}")) for part in ("images", "labels"))
        except ConfigError:
            parts += (None, None)
    else:
        parts = read_npz(path)
    return _checked(parts[0], parts[1], data) + (
        (None, None) if parts[2] is None else _checked(parts[2], parts[3], data)
    )


def _checked(x: Any, y: Any, data: str) -> tuple[Any, Any]:
    pixels = x.reshape(len(x), -1)
    if pixels.shape[1] != 784 or y.shape != (len(x),):
        raise ConfigError(
            f"{data} holds images of shape {x.shape} and labels of shape {y.shape}: {HOW_TO_GET}"
        )
    if int(y.min()) < 0 or int(y.max()) > 9:
        raise ConfigError(f"{data} holds labels from {y.min()} to {y.max()}; digits are 0 to 9")
    scale = 255 if x.dtype == np.uint8 else max(1.0, float(x.max()))
    return torch.from_numpy(pixels.astype("float32") / scale), torch.from_numpy(y.astype("int64"))


def run(config: Config, run: Run) -> None:
    """Trains with each signal and states the claims."""
    recipe = training.recipe_of(config, classes=10)
    optimizers = list(training.OPTIMIZERS)
    results = training.train_all(
        lambda seed: _subset(config, seed), recipe, optimizers, SIGNALS, config.seeds, config.seed, run
    )
    caption = (
        f"Final test accuracy on {config.tests:,} images, mean and 95 % t interval over {config.seeds} seeds; "
        f"{config.examples:,} training images, {config.epochs} epochs, {config.depth} blocks of {config.width} units."
    )
    run.table("accuracy", training.accuracy_table(results, "Accuracy by signal and optimiser", caption))
    run.figure(
        "training",
        training.curves_figure(results, optimizers, 0.1),
        title="Learning curves",
        caption=f"Test error; lines are means over {config.seeds} seeds, bands their range, the dotted line is chance.",
    )
    for signal in ("error", "displacement"):
        run.claim(_close_to_backprop(results, signal))
    run.claim(training.hidden_scale_claim(results))


def _subset(config: Config, seed: int) -> training.Data:
    """A random subset to train on, and test images apart from it; centred by the training mean."""
    x, y, test_x, test_y = images(config.data)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(derive_seed(seed, "subset")))
    wanted = config.examples + (config.tests if test_x is None else 0)
    if wanted > len(x):
        raise ConfigError(
            f"{config.data} holds {len(x)} images for training, and {wanted} are asked for; lower --examples"
        )
    ours = order[: config.examples]
    if test_x is None:
        theirs = order[config.examples : wanted]
        test_x, test_y = x[theirs], y[theirs]
    mean = x[ours].mean(0)
    return training.Data(x[ours] - mean, y[ours], test_x[: config.tests] - mean, test_y[: config.tests])


def _close_to_backprop(results: training.Results, signal: str) -> Claim:
    gap = paired_interval(
        training.accuracies(results, "adam", signal), training.accuracies(results, "adam", "backprop")
    )
    return Claim(
        name=f"{signal}-close",
        statement=f"{training.SIGNALS[signal][0].upper()}{training.SIGNALS[signal][1:]} trains to within half a point of "
        "backpropagation.",
        source="prototype of this library: 20,000 images, within 0.5 points",
        expected="≥ −0.5",
        measured=100 * gap.mean,
        low=-0.5,
        interval=(100 * gap.low, 100 * gap.high),
        unit="points",
        note=f"under Adam, paired over {len(results['adam', signal])} seeds, 95 % t interval",
    )
