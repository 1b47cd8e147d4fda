"""Tomography from few projections: coordinate networks with and without features beside classical reconstructions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost._table import Table
from fingerpost.errors import ConfigError
from fingerpost.experiments import _ct_classical as classical
from fingerpost.experiments import _ct_kernel as kernel
from fingerpost.experiments import _ct_network as network
from fingerpost.experiments import _ct_phantom as phantom
from fingerpost.experiments import _image_figures as figures
from fingerpost.experiments import _image_files as files
from fingerpost.experiments import _image_fits as fits
from fingerpost.lab import Claim, Run, derive_seed, legend_outside, mean_interval, new_figure, paired_interval

np = lazy_import("numpy")
torch = lazy_import("torch")

SOURCE = "Tancik et al. 2020, arXiv:2006.10739, section 6: 2D computed tomography"
OURS = "specification of the spectral experiments"
RAMP, HANN, PIXELS = "back-projection, ramp", "back-projection, Hann", "least squares on pixels"


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      seed: Gives weights, frequencies and the order of rays.
      seeds: Networks of each encoding.
      projections: Angles, evenly spaced over half a turn.
      detectors: Readings of a projection.
      size: Pixels of a side of the pictures that are compared.
      sigmas: The σ of the Gaussian encoding among which the kernel's evidence picks, in cycles per unit.
      highest: The σ of the positional encoding among which it picks.
      kernel_size: Pixels of a side of the grid on which the kernel is computed, and detectors it uses.
      frequencies: Frequencies of the positional and the Gaussian encoding.
      width: Units of each hidden layer.
      depth: Hidden layers.
      steps: Updates of each network.
      rays: Rays of an update.
      samples: Points on each ray.
      learning_rate: Adam's, after a short rise; it falls to 0 along a cosine.
      iterations: Of least squares on pixels.
      device: Where to compute.
      dtype: Precision of training.
    """

    seed: int = 0
    seeds: int = 3
    projections: int = 20
    detectors: int = 128
    size: int = 128
    sigmas: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
    highest: tuple[float, ...] = (4.0, 8.0, 16.0, 32.0, 64.0)
    kernel_size: int = 64
    frequencies: int = 256
    width: int = 256
    depth: int = 3
    steps: int = 1000
    rays: int = 64
    samples: int = 48
    learning_rate: float = 0.003
    iterations: int = 200
    device: str = "cpu"
    dtype: str = "float32"


PRESETS = {
    "quick": Config(
        detectors=64, size=64, sigmas=(1.0, 2.0, 4.0, 8.0), highest=(4.0, 8.0, 16.0, 32.0), kernel_size=32,
        frequencies=128, width=128, steps=400, rays=48, samples=32, learning_rate=0.004,
    ),
    "full": Config(),
}  # fmt: skip


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work."""
    if config.seeds < 2:
        raise ConfigError(f"seeds is {config.seeds}; at least 2 are needed for an interval")
    least = {"projections": 2, "detectors": 8, "size": 8, "kernel_size": 8, "frequencies": 2}
    for name in ("width", "depth", "steps", "rays", "samples", "iterations"):
        least[name] = 1
    for name, value in least.items():
        if getattr(config, name) < value:
            raise ConfigError(f"{name} is {getattr(config, name)}; it must be at least {value}")
    if config.frequencies % 2:
        raise ConfigError(f"frequencies is {config.frequencies}; it must be even: half for each axis")
    for name in ("sigmas", "highest"):
        if not getattr(config, name) or min(getattr(config, name)) <= 0:
            raise ConfigError(f"{name} is {getattr(config, name)}; give positive numbers of cycles per unit")
    if not config.learning_rate > 0:
        raise ConfigError(f"learning_rate is {config.learning_rate}; it must be above 0")


def run(config: Config, run: Run) -> None:
    """Scans, reconstructs in every way, draws, and states the claims."""
    data = phantom.scan(config.projections, config.detectors)
    truth = phantom.picture(config.size)
    _describe(config, run)
    evidence = run.once("evidence", lambda: evidence_of(config))
    chosen = {kind: best["sigma"] for kind, best in _best(evidence).items()}
    classics = {
        RAMP: classical.filtered_back_projection(data, config.size, "ramp").clip(0, 1),
        HANN: classical.filtered_back_projection(data, config.size, "hann").clip(0, 1),
        PIXELS: classical.least_squares_on_pixels(data, config.size, config.iterations),
    }
    trained = trained_networks(config, data, truth, chosen, run)
    pictures = {kind: fits.picture_of(run, f"{fits.STEM[kind]}-0")[..., 0] for kind in fits.ENCODINGS}
    for name, picture in {"phantom": truth, **classics}.items():
        files.write_png(run.directory / "pictures" / f"{_stem(name)}.png", picture[..., None])
    kernels = run.once("kernel", lambda: kernel_scores(config, evidence))
    run.table("psnr", table(config, trained, classics, truth, chosen, kernels))
    run.figure(
        "pictures",
        pictures_figure(truth, classics, pictures, trained),
        title="Reconstructions",
        caption="Pictures with their PSNR, and below each where it errs; of the networks, the first seed. All know that "
        "densities lie from 0 to 1 and that nothing is outside the field of view.",
    )
    run.figure(
        "curves", curves_figure(trained), title="Learning curves",
        caption="PSNR against the phantom, which training does not see; lines are means over seeds.",
    )  # fmt: skip
    run.figure(
        "evidence", evidence_figure(evidence), title="σ by the kernel's evidence",
        caption="How probable the readings are under a Gaussian process with the tangent kernel, a reading, at its best noise; "
        "no network is trained and the phantom is not looked at. The ring marks the σ that is trained.",
    )  # fmt: skip
    for claim in claims(trained, classics, truth):
        run.claim(claim)


def _stem(name: str) -> str:
    return name.replace(", ", "-").replace(" ", "-").lower()


def _describe(config: Config, run: Run) -> None:
    run.text(
        "What is measured",
        f"The Shepp–Logan phantom, {config.projections} projections of {config.detectors} readings each. Readings are exact "
        "line integrals of its ellipses, not sums over a grid that reconstructions share. A network from coordinates to "
        f"densities ({config.depth} hidden layers of {config.width} units, ReLU, a sigmoid at the end) is fitted to them by "
        f"Adam, {config.steps:,} updates of {config.rays} rays, each read at {config.samples} evenly spaced points with a "
        f"common random shift. PSNR is taken over {config.size}×{config.size} pixel means of the phantom.",
    )


def encoding(config: Config, kind: str, sigma: float | None, seed: int) -> Any:
    """The encoding of one network."""
    return fits.encoding_of(kind, sigma, config.frequencies, seed)


def evidence_of(config: Config) -> dict[str, list[dict[str, float]]]:
    """The kernel's evidence by encoding: rows of sigma, ridge and evidence, on a scan with fewer detectors."""
    data = phantom.scan(config.projections, config.kernel_size)
    grids = {fits.POSITIONAL: config.highest, fits.GAUSSIAN: config.sigmas}
    return {
        kind: kernel.choose(
            [(s, encoding(config, kind, s, config.seed)) for s in grid],
            data,
            config.kernel_size,
            config.depth,
        )
        for kind, grid in grids.items()
    }


def _best(evidence: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {kind: max(rows, key=lambda row: row["evidence"]) for kind, rows in evidence.items()}


def kernel_scores(config: Config, evidence: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    """PSNR of kernel regression at the σ that was picked, over pixels of the kernel's own grid."""
    size = config.kernel_size
    data, truth = phantom.scan(config.projections, size), phantom.picture(size)
    scores = {}
    for kind, best in _best(evidence).items():
        chosen = encoding(config, kind, best["sigma"], config.seed)
        picture = kernel.regression_picture(chosen, data, size, config.depth, best["ridge"])
        scores[kind] = score(picture, truth)
    return scores


def score(picture: Any, truth: Any) -> float:
    """PSNR in dB of pictures in [0, 1]."""
    return float(-10 * np.log10(((picture - truth) ** 2).mean()))


Trained = dict[str, list[dict[str, Any]]]


def trained_networks(config: Config, data: Any, truth: Any, chosen: dict[str, float], run: Run) -> Trained:
    """Every encoding with every seed: rows of psnr, reading error and curve; pictures go into the folder."""
    jobs = [(kind, k) for k in range(config.seeds) for kind in fits.ENCODINGS]
    results: Trained = {kind: [] for kind in fits.ENCODINGS}
    for kind, k in run.progress(jobs, "networks"):
        stage = f"{fits.STEM[kind]}-{k}"
        sigma = chosen.get(kind)
        results[kind].append(run.once(stage, lambda: _train(config, data, truth, kind, sigma, k, stage, run)))  # noqa: B023
    return results


def _train(
    config: Config, data: Any, truth: Any, kind: str, sigma: float | None, k: int, stage: str, run: Run
) -> dict[str, Any]:
    seed = derive_seed(config.seed, "network", k)
    options: dict[str, Any] = {"dtype": config.dtype, "device": config.device}
    net = network.new_network(
        encoding(config, kind, sigma, seed), config.width, config.depth, seed, data, **options
    )
    rays = network.Rays(data, next(net.parameters()))
    history = network.fit(
        net, rays, steps=config.steps, batch=config.rays, samples=config.samples, rate=config.learning_rate, seed=seed,
        run=run, stage=f"{stage}-train", evaluate=lambda model: {"psnr": score(network.picture_of(model, config.size), truth)},
    )  # fmt: skip
    picture = network.picture_of(net, config.size)
    files.write_png(run.directory / "pictures" / f"{stage}.png", picture[..., None])
    error = network.reading_error(net, rays, 2 * config.size)
    curve = [[row["step"], row["psnr"]] for row in history if "psnr" in row]
    return {"psnr": score(picture, truth), "reading_error": error, "curve": curve}


def psnrs(trained: Trained, kind: str) -> list[float]:
    """PSNR by seed."""
    return [row["psnr"] for row in trained[kind]]


def table(
    config: Config,
    trained: Trained,
    classics: dict[str, Any],
    truth: Any,
    chosen: dict[str, float],
    kernels: dict[str, float],
) -> Table:
    """PSNR by method."""
    rows: list[list[Any]] = [[name, None, score(p, truth), None, None, None] for name, p in classics.items()]
    for kind in fits.ENCODINGS:
        mean = mean_interval(psnrs(trained, kind))
        error = float(np.mean([row["reading_error"] for row in trained[kind]]))
        around = f"[{mean.low:.2f}, {mean.high:.2f}]"
        rows.append([f"network, {kind}", chosen.get(kind), mean.mean, around, 1e3 * error, kernels.get(kind)])
    heads = ["method", "σ", "PSNR", "interval", "error of readings, 10⁻³", "PSNR, kernel alone"]
    size, count = config.kernel_size, config.iterations
    caption = (
        f"PSNR in dB over {config.size}×{config.size} pixels; networks: mean over {config.seeds} seeds with its 95 % t "
        f"interval. Least squares on pixels: {count} iterations, which for it is a way to stop early. Kernel alone: regression "
        f"with the tangent kernel at the same σ, over {size}×{size} pixels from as many detectors: another, coarser task."
    )
    return Table(heads, rows, title="PSNR by method", caption=caption)


def pictures_figure(truth: Any, classics: dict[str, Any], pictures: dict[str, Any], trained: Trained) -> Any:
    """The phantom and all reconstructions with their errors, four to a row."""
    cells = [("phantom", truth, None)]
    cells += [(name, picture, score(picture, truth)) for name, picture in classics.items()]
    cells += [(f"network, {kind}", picture, trained[kind][0]["psnr"]) for kind, picture in pictures.items()]
    figure, axes = new_figure(4, 4, width=10.4, height=11.2)
    image = None
    for k, (name, picture, value) in enumerate(cells):
        block, column = divmod(k, 4)
        title = name if value is None else f"{name}\n{value:.2f} dB"
        figures.show(axes[2 * block][column], picture[..., None], title)
        below = axes[2 * block + 1][column]
        if value is None:
            below.set_axis_off()
            continue
        image = below.imshow(np.abs(picture - truth), cmap="magma", vmin=0, vmax=0.4, interpolation="none")
        figures.bare(below)
    assert image is not None, "there is at least one reconstruction"
    bar = figure.colorbar(
        image, cax=axes[1][0].inset_axes((0.06, 0.52, 0.82, 0.09)), orientation="horizontal"
    )
    bar.set_label("error of a pixel")
    bar.ax.grid(False)
    return figure


def curves_figure(trained: Trained) -> Any:
    """PSNR over updates, means over seeds and their range."""
    figure, axis = new_figure(width=7.2, height=4.4)
    for kind, rows in trained.items():
        steps = [point[0] for point in rows[0]["curve"]]
        values = np.array([[point[1] for point in row["curve"]] for row in rows])
        style = figures.style_of(kind)
        axis.plot(steps, values.mean(0), marker="", **style)
        axis.fill_between(steps, values.min(0), values.max(0), color=style["color"], alpha=0.15, linewidth=0)
    axis.set(xlabel="updates", ylabel="PSNR (dB)")
    legend_outside(figure, axis, columns=len(trained))
    return figure


def evidence_figure(evidence: dict[str, list[dict[str, float]]]) -> Any:
    """Log evidence a reading over σ."""
    figure, axis = new_figure(width=7.2, height=4.2)
    for kind, rows in evidence.items():
        style = figures.style_of(kind)
        axis.plot([row["sigma"] for row in rows], [row["evidence"] for row in rows], marker="o", **style)
        best = max(rows, key=lambda row: row["evidence"])
        axis.plot(
            [best["sigma"]],
            [best["evidence"]],
            marker="o",
            markersize=13,
            fillstyle="none",
            color=style["color"],
        )
    ticks: Sequence[float] = sorted({row["sigma"] for rows in evidence.values() for row in rows})
    figures.sigma_axis(axis, ticks)
    axis.set_ylabel("log evidence a reading (nats)")
    legend_outside(figure, axis)
    return figure


def claims(trained: Trained, classics: dict[str, Any], truth: Any) -> list[Claim]:
    """Whether features help, whether they beat back-projection, and whether they beat pixels."""
    gaussian, none = psnrs(trained, fits.GAUSSIAN), psnrs(trained, fits.NONE)
    note = f"over {len(gaussian)} seeds (weights, frequencies, rays), 95 % t interval"
    found = []
    for kind in (fits.BASIC, fits.POSITIONAL, fits.GAUSSIAN):
        gain = paired_interval(psnrs(trained, kind), none)
        found.append(
            Claim(f"{fits.STEM[kind]}-over-none", f"{kind[0].upper()}{kind[1:]} features raise the PSNR of bare coordinates.",
                  SOURCE, "> 0", gain.mean, low=0.0, interval=gain.interval, unit="dB", note=f"paired {note}",
                  decided_by="interval")
        )  # fmt: skip
    rivals = {
        "over-back-projection": ("filtered back-projection, in the better of two windows", (RAMP, HANN)),
        "over-pixels": ("least squares on pixels in [0, 1], which knows the range as well", (PIXELS,)),
    }
    for name, (rival, baselines) in rivals.items():
        statement = f"Gaussian features beat {rival}."
        best = max(score(classics[key], truth) for key in baselines)
        gain = mean_interval([value - best for value in gaussian])
        found.append(
            Claim(f"gaussian-{name}", statement, OURS, "> 0", gain.mean, low=0.0, interval=gain.interval, unit="dB",
                  note=f"the classical one has {best:.2f} dB; {note}", decided_by="interval")
        )  # fmt: skip
    return found
