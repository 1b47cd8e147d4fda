"""Memory that an in-place operation keeps for ever, measured from outside, with the guard's report beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost._table import Table
from fingerpost.errors import ConfigError
from fingerpost.experiments import _leak_growth as growth
from fingerpost.lab import Claim, Run, legend_outside, new_figure

torch = lazy_import("torch")
corpus = lazy_import("fingerpost.leakwatch.corpus")
leakwatch = lazy_import("fingerpost.leakwatch")
accounting = lazy_import("fingerpost.experiments._live_bytes")

SOURCE = "“An obscure reason of GPU memory leak in pytorch” (2023-05-08)"
OURS = "the design of fingerpost.leakwatch"
FORM = "x /= norm(x)"
WAYS = {
    growth.PLAIN: "in place",
    growth.CURED: "out of place",
    growth.BACKWARD: "in place, with backward",
    growth.CURED_BACKWARD: "out of place, with backward",
}
MEGA = 1e6


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      seed: Seed of the data that the gradients are compared on.
      passes: Passes of the two curves.
      rows: Rows of the curves' tensor.
      width: Columns of the curves' tensor; 27,500 × 100 float32 numbers are 11 MB.
      corpus_rows: Rows of the tensor that each form of the corpus is tried on.
      corpus_passes: Passes of each form of the corpus.
      device: Where to compute; on CUDA the allocator's own count takes the place of the count of storages.
      dtype: Precision of the measured tensors; float32, as in the source.
    """

    seed: int = 0
    passes: int = 100
    rows: int = 27_500
    width: int = 100
    corpus_rows: int = 500
    corpus_passes: int = 20
    device: str = "cpu"
    dtype: str = "float32"


PRESETS = {"quick": Config(passes=30, corpus_passes=5), "full": Config()}


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work."""
    for name in ("passes", "corpus_passes"):
        if getattr(config, name) < 2:
            raise ConfigError(f"{name} is {getattr(config, name)}; growth needs at least 2 passes")
    if min(config.rows, config.corpus_rows) < 8 or config.width < 8:
        raise ConfigError("rows, corpus_rows and width must be at least 8: forms write into some columns")
    if config.dtype != "float32":
        raise ConfigError(f"dtype is {config.dtype}; the measured tensors are float32, as in the source")


def run(config: Config, run: Run) -> None:
    """Measures the two curves and every form of the corpus in processes of their own, and asks the guard about each."""
    curves = run.once("curves", lambda: _curves(config))
    forms = run.once("corpus", lambda: _corpus(config))
    _show_curves(config, run, curves)
    _show_corpus(config, run, forms)
    _claim_leak(config, run, curves)
    _claim_corpus(run, forms)
    _claim_mutation(config, run, forms)
    _claim_release(config, run)


def _curves(config: Config) -> dict[str, Any]:
    """One child for each way, so that resident memory starts alike."""
    return {
        way: growth.measured_in_child(
            growth.Task((FORM,), (way,), config.passes, config.rows, config.width, config.device)
        )[FORM][way]
        for way in WAYS
    }


def _corpus(config: Config) -> dict[str, Any]:
    return growth.measured_in_child(
        growth.Task(
            ways=(growth.PLAIN, growth.CURED),
            passes=config.corpus_passes,
            rows=config.corpus_rows,
            width=config.width,
            device=config.device,
        )
    )


def _per_pass(found: dict[str, Any]) -> float:
    """Bytes kept at each pass."""
    return found["live"][-1] / len(found["live"])


def _show_curves(config: Config, run: Run, curves: dict[str, Any]) -> None:
    size = next(iter(curves.values()))["nbytes"]
    for index in range(config.passes):
        for way, found in curves.items():
            run.log(way.replace(" ", "-"), index + 1, held=found["live"][index])
    caption = (
        f"x is {config.rows:,} × {config.width} float32 numbers, {megabytes(size)}, the output of a linear map. Lines: "
        "bytes of all live storages, counted one by one. Marks: resident memory of the process, whose allocator gives large "
        "blocks back at once. In place the division also copies x for its own derivative; a backward pass frees that copy "
        "before it fails, and x stays."
    )
    run.figure("curves", _figure(curves), title="Memory against passes of one line", caption=caption)
    rows = [
        [
            WAYS[way],
            _per_pass(found) / size,
            found["live"][-1] / MEGA,
            found["resident"][-1] / MEGA if found["resident"] else None,
            _outcome(way, found["error"]),
        ]
        for way, found in curves.items()
    ]
    heads = ["form", "kept per pass (sizes of x)", "kept in all (MB)", "resident growth (MB)", "backward"]
    run.table("curves", Table(heads, rows, title="The two curves in numbers", caption=caption))
    leak = curves[growth.PLAIN]["leaks"]
    if leak:
        rows = [[name, leak[0][key]] for name, key in _REPORT]
        rows[1][1] = " → ".join(leak[0]["ring"])
        note = "What fingerpost.leakwatch.LeakGuard reports of the in-place curve, in the process that was measured."
        run.table("report", Table(["", "guard's report"], rows, title="The guard's report", caption=note))


_REPORT = (("line", "source"), ("ring", "ring"), ("bytes at each pass", "nbytes"), ("cure", "cure"))


def megabytes(size: float) -> str:
    """Megabytes, as the captions say them."""
    return f"{size / MEGA:.3g} MB"


def _outcome(way: str, error: str) -> str:
    if "backward" not in way:
        return "not called"
    return (
        "error: modified by an inplace operation" if "modified by an inplace" in error else error or "passes"
    )


def _figure(curves: dict[str, Any]) -> Any:
    figure, axes = new_figure(1, 2, width=9.6, height=4.0, sharey=True)
    pairs = (
        (axes[0], growth.PLAIN, growth.CURED, "Forward only"),
        (axes[1], growth.BACKWARD, growth.CURED_BACKWARD, "With backward"),
    )
    for panel, leaking, cured, title in pairs:
        for way, colour, marker in ((leaking, "#D55E00", "o"), (cured, "#0072B2", "s")):
            found = curves[way]
            passes = range(1, len(found["live"]) + 1)
            label = WAYS[way].partition(",")[0]
            panel.plot(passes, [value / MEGA for value in found["live"]], color=colour, label=label)
            every = slice(None, None, max(1, len(passes) // 12))
            resident = [value / MEGA for value in found["resident"]]
            panel.plot(
                list(passes)[every] if resident else [], resident[every], color=colour, linestyle="none",
                marker=marker, markersize=4.5, markerfacecolor="none", label=f"{label}, resident",
            )  # fmt: skip
        panel.set(xlabel="passes of the line", title=title)
    axes[0].set(ylabel="memory kept (MB)")
    legend_outside(figure, axes[0], columns=4)
    return figure


def _show_corpus(config: Config, run: Run, forms: dict[str, Any]) -> None:
    rows = []
    for name, ways in forms.items():
        found, form = ways[growth.PLAIN], corpus.FORMS[name]
        kept = _per_pass(found) / found["nbytes"]
        says = f"line {found['leaks'][0]['line']}" if found["leaks"] else "nothing"
        cured = ways.get(growth.CURED)
        rows.append(
            [
                name,
                kept,
                sum(leak["nbytes"] for leak in found["leaks"]) / found["nbytes"] if found["leaks"] else 0.0,
                says,
                f"line {found['line']}" if form.leaks else "nothing",
                "yes" if _right(form, found) else "NO",
                None if cured is None else _per_pass(cured) / cured["nbytes"],
            ]
        )
    heads = [
        "form",
        "kept per pass, measured",
        "guard's figure",
        "guard names",
        "truth",
        "right",
        "cure keeps",
    ]
    caption = (
        f"Bytes kept per pass in sizes of x ({config.corpus_rows} × {config.width} float32 numbers), counted over "
        f"{config.corpus_passes} passes in a process of its own after Python's collector ran. Lines are those of "
        "fingerpost/leakwatch/corpus.py. Resident memory is no judge here: an allocator gives what earlier forms freed to "
        "later ones, and takes pages that it does not give back."
    )
    run.table("corpus", Table(heads, rows, title="Every form of the corpus", caption=caption))


def _right(form: Any, found: dict[str, Any]) -> bool:
    """Whether the guard names the marked line and no other, or nothing for a form that keeps nothing."""
    named = [leak["line"] for leak in found["leaks"]]
    return named == ([found["line"]] if form.leaks else [])


def _claim_leak(config: Config, run: Run, curves: dict[str, Any]) -> None:
    plain, cured = curves[growth.PLAIN], curves[growth.CURED]
    run.claim(
        Claim(
            name="in-place-norm-leaks",
            statement="x /= norm(x) on a tensor that is no leaf keeps memory at every pass.",
            source=SOURCE,
            expected="≥ 1: the tensor itself, at each pass",
            measured=_per_pass(plain) / plain["nbytes"],
            low=1.0,
            unit="sizes of x, a pass",
            note=f"{config.passes} passes over {megabytes(plain['nbytes'])} hold {plain['live'][-1] / 1e9:.3g} GB; x, "
            "the copy that the division keeps, and the norms",
        )
    )
    run.claim(
        Claim(
            name="out-of-place-does-not",
            statement="x = x / norm(x) keeps nothing.",
            source=SOURCE,
            expected="0",
            measured=_per_pass(cured),
            low=0.0,
            high=0.0,
            unit="bytes a pass",
        )
    )
    failed = curves[growth.BACKWARD]
    kept = _per_pass(failed) / failed["nbytes"]
    run.claim(
        Claim(
            name="lost-with-backward-too",
            statement="With a backward pass the version error comes, and the memory is lost all the same.",
            source="fingerpost: the source does not call backward",
            expected="≥ 1, with the error",
            measured=kept if "modified by an inplace operation" in failed["error"] else float("nan"),
            low=1.0,
            unit="sizes of x, a pass",
            note="the copy is freed before the error, x is not",
        )
    )


def _claim_corpus(run: Run, forms: dict[str, Any]) -> None:
    leaking = [(corpus.FORMS[name], ways) for name, ways in forms.items() if corpus.FORMS[name].leaks]
    harmless = [(corpus.FORMS[name], ways) for name, ways in forms.items() if not corpus.FORMS[name].leaks]
    grow = sum(_per_pass(ways[growth.PLAIN]) > 0 for _, ways in leaking)
    located = sum(_right(form, ways[growth.PLAIN]) for form, ways in leaking)
    run.claim(
        Claim(
            name="leaking-forms-located",
            statement="Each leaking form is reported at its own line, and at no other.",
            source=OURS,
            expected=f"{len(leaking)} of {len(leaking)}",
            measured=located,
            low=len(leaking),
            unit="forms",
            note=f"{grow} of them grow by measure",
        )
    )
    growing = sum(_per_pass(ways[growth.PLAIN]) != 0 for _, ways in harmless)
    run.claim(
        Claim(
            name="harmless-forms-left-alone",
            statement="None of the harmless forms is reported.",
            source=OURS,
            expected=f"0 of {len(harmless)}",
            measured=sum(len(ways[growth.PLAIN]["leaks"]) for _, ways in harmless),
            high=0,
            unit="reports",
            note=f"{growing} of them grow by measure",
        )
    )
    off = max(
        abs(_per_pass(ways[growth.PLAIN]) - sum(leak["nbytes"] for leak in ways[growth.PLAIN]["leaks"]))
        for _, ways in leaking
    )
    run.claim(
        Claim(
            name="bytes-as-measured",
            statement="The guard's bytes per pass are the bytes that stay.",
            source=OURS,
            expected="0",
            measured=off,
            high=0,
            unit="bytes, the largest difference over forms",
        )
    )
    run.claim(
        Claim(
            name="cures-cure",
            statement="The line that the guard suggests keeps nothing.",
            source=OURS,
            expected="0",
            measured=max(_per_pass(ways[growth.CURED]) for _, ways in leaking),
            high=0,
            unit="bytes a pass, the largest over forms",
        )
    )


def _claim_mutation(config: Config, run: Run, forms: dict[str, Any]) -> None:
    """allow_mutation_on_saved_tensors: no leak, and the gradient of the out-of-place form."""

    def gradient(allowed: bool) -> Any:
        bench = corpus.Bench(64, 16, config.device, torch.float64, config.seed)
        with torch.autograd.graph.allow_mutation_on_saved_tensors():
            x = (corpus.norm if allowed else corpus.norm_cured)(bench)
            (x**3).sum().backward()
        return bench.weight.grad

    right = gradient(allowed=False)
    run.claim(
        Claim(
            name="mutation-allowed",
            statement="Under allow_mutation_on_saved_tensors the in-place line has the right gradient, and keeps nothing.",
            source="torch.autograd.graph.allow_mutation_on_saved_tensors, PyTorch's documentation",
            expected="≤ 1e-12",
            measured=float((gradient(allowed=True) - right).norm() / right.norm())
            if _per_pass(forms["x /= norm(x) with mutation allowed"][growth.PLAIN]) == 0
            else float("nan"),
            high=1e-12,
            unit="‖g − out of place‖/‖out of place‖",
        )
    )


def _claim_release(config: Config, run: Run) -> None:
    """What the census finds after the fact, and what its release gives back."""
    bench = corpus.Bench(config.corpus_rows, config.width, config.device)
    visible = [form for form in corpus.LEAKING if form.step is not corpus.sliced]
    leakwatch.census().release()
    with accounting.LiveBytes() as memory:
        start = memory.now
        for form in visible:
            form.step(bench)
        found = leakwatch.census()
        kept = memory.now - start
        found.release()
        left = memory.now - start
    run.claim(
        Claim(
            name="release-frees",
            statement="A census after the fact finds the orphaned graphs, and its release frees them.",
            source=OURS,
            expected="0",
            measured=left,
            high=0,
            unit="bytes left",
            note=f"{kept:,} bytes before, {len(found.orphans)} orphans of {len(visible)} forms; the census sees what hidden "
            "nodes of views hold only if a guard was there",
        )
    )
