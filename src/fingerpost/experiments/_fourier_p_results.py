"""What fourier-p shows and claims."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fingerpost._lazy import lazy_import
from fingerpost._table import Table
from fingerpost.experiments import _fourier_p_pictures as pictures
from fingerpost.experiments import _fourier_p_sweep as exact
from fingerpost.experiments._fourier_p_nets import Trained
from fingerpost.lab import Claim, Run, paired_interval

if TYPE_CHECKING:
    from fingerpost.experiments.fourier_p import Config

torch = lazy_import("torch")

SOURCE = "spectral-bias.md"
PAPER, LATE = 0, 1
"""Places of the two times in every sweep."""
Sweeps = dict[tuple[float, float], exact.Losses]


def show(config: Config, run: Run, times: Any, sweeps: Sweeps, trained: list[Trained]) -> None:
    """Tables, figures and claims."""
    run.text(
        "What is swept",
        f"Signals on the circle with amplitudes (1 + k)^−α below {config.band} cycles, read at {config.points} points; tested "
        f"at {config.between - 1} points in each gap. Encodings with frequencies 1 … {config.points // 2} and amplitudes j^−p "
        "over their norm. The network is the paper's: standard parametrization, "
        f"{config.depth} hidden ReLU layers of {config.width}, trained biases; its tangent kernel gives training from output 0 "
        f"exactly. The paper's time is ηt = {config.time:g}: 50,000 steps of 1e-5 on half the sum of squares.",
    )
    floors = {alpha: exact.floor(config, alpha) for alpha in config.alphas}
    _table(config, run, sweeps, floors)
    dense = {alpha: pictures.between_powers(config, alpha) for alpha in config.alphas}
    run.figure(
        "sweep",
        pictures.sweep(config, sweeps, dense, floors),
        title="Test loss against p",
        caption=f"Mean square error between the training points, mean over {config.signals} signals, by exact kernel "
        "dynamics. Rings: the lowest of the sweep. Dotted: the best linear interpolation that knows the spectrum. ∞ is one "
        f"frequency. What a signal has past the Nyquist limit, {config.points // 2}, no encoding learns.",
    )
    run.figure(
        "time",
        pictures.curves(config, times, sweeps),
        title="Test loss against time",
        caption=f"The same losses while training goes on, ηt over the paper's; vertical lines at 1 and {config.late:g}. Which "
        "p is lowest changes along the way.",
    )
    run.figure(
        "spectra",
        pictures.spectra(config),
        title="Eigenvalues of the kernel by frequency",
        caption="A mode's error decays at η times its eigenvalue. At p = 0 all frequencies but the constant are learnt at one "
        "rate, and the last, whose sine vanishes on the training points, faster.",
    )
    if trained:
        _nets(config, run, trained)
    for alpha in config.alphas:
        for place in (PAPER, LATE):
            _claim_best(config, run, sweeps, alpha, place)
        _claim_overfits(config, run, sweeps, alpha)
    _claim_one_p(config, run, sweeps)
    for p in (0.0, 1.0):
        _claim_order(config, run, p)


def best(
    config: Config, sweeps: Sweeps, alpha: float, place: int, powers: Sequence[float] | None = None
) -> float:
    """The p of the lowest mean test loss."""
    return min(powers or config.powers, key=lambda p: float(sweeps[alpha, p].test[place].mean()))


def when(config: Config, place: int) -> str:
    """How a time is called."""
    return "the paper's time" if place == PAPER else f"{config.late:g} × the paper's time"


def _table(config: Config, run: Run, sweeps: Sweeps, floors: dict[float, float]) -> None:
    raw = torch.tensor([config.time, config.late * config.time], dtype=torch.float64)
    rows = []
    for alpha in config.alphas:
        plain = {p: exact.sweep(config, alpha, p, raw, normalize=False).test.mean(1) for p in config.powers}
        for place in (PAPER, LATE):
            losses = [1e3 * float(sweeps[alpha, p].test[place].mean()) for p in config.powers]
            lowest = exact.shown(best(config, sweeps, alpha, place))
            undivided = exact.shown(min(config.powers, key=lambda p, at=place: float(plain[p][at])))
            rows.append([alpha, when(config, place), *losses, lowest, undivided, 1e3 * floors[alpha]])
    heads = [
        "α",
        "time",
        *(f"p = {exact.shown(p)}" for p in config.powers),
        "best p",
        "best p, a undivided",
        "floor",
    ]
    caption = (
        f"Mean square test error × 1000, mean over {config.signals} signals; kernel of width {config.width}. Undivided: "
        "amplitudes j^−p not over their norm, so that p changes the learning rate too. Floor: the best linear interpolation."
    )
    run.table("losses", Table(heads, rows, title="Test loss by p", caption=caption))


def _nets(config: Config, run: Run, trained: list[Trained]) -> None:
    rows = []
    for net in trained:
        for time in (1.0, config.late):
            real, predicted = net.at(net.real, time), net.at(net.predicted, time)
            apart = 100 * net.at(net.apart, time)
            rows.append([net.alpha, exact.shown(net.p), time, 1e3 * real, 1e3 * predicted, apart])
    caption = (
        f"One signal, one network for each row: width {config.net_width}, depth {config.depth}, standard parametrization, "
        f"{config.dtype}, η λ_max = {config.share:g}, full-batch gradient descent. Losses × 1000. Predicted from the network's "
        "own initial output by the analytic kernel. Apart: difference of outputs over the signal, root mean squares."
    )
    heads = ["α", "p", "time", "test loss, trained", "test loss, predicted", "apart (%)"]
    run.table("networks", Table(heads, rows, title="Real networks", caption=caption))
    run.figure(
        "networks",
        pictures.networks(config, trained),
        title="Real networks beside their prediction",
        caption=f"Test loss of trained networks of width {config.net_width} (lines) and of the linearised ones from the same "
        "start (rings), one signal.",
    )
    _claim_networks(config, run, trained)
    _claim_same_best(config, run, trained)


def _over(mine: Any, theirs: Any) -> tuple[float, tuple[float, float]]:
    """Mean of mine over mean of theirs, with the paired interval of their difference in the same unit."""
    gap, scale = paired_interval(mine.tolist(), theirs.tolist()), float(theirs.mean())
    low, high = gap.interval
    return 1 + gap.mean / scale, (1 + low / scale, 1 + high / scale)


def _claim_best(config: Config, run: Run, sweeps: Sweeps, alpha: float, place: int) -> None:
    others = [p for p in config.powers if p != 1.0]
    rival = best(config, sweeps, alpha, place, others)
    mine, theirs = sweeps[alpha, 1.0].test[place], sweeps[alpha, rival].test[place]
    ratio, interval = _over(mine, theirs)
    rows = torch.stack([sweeps[alpha, p].test[place] for p in config.powers]).argmin(0)
    wins = int((rows == config.powers.index(1.0)).sum())
    own = " This is the source's own setting." if alpha == 1.0 and place == PAPER else ""
    run.claim(
        Claim(
            name=f"p-one-is-best-alpha-{alpha:g}-{'paper' if place == PAPER else 'late'}",
            statement=f"p = 1 is the optimal choice (smallest test loss): α = {alpha:g}, {when(config, place)}.",
            source=f"{SOURCE}, Fourier features in one dimension",
            expected="≤ 1, with its whole interval",
            measured=ratio,
            high=1.0,
            interval=interval,
            unit="test loss of p = 1 over that of the best other p",
            decided_by="interval",
            note=f"best other: p = {exact.shown(rival)}; p = 1 is lowest for {wins} of {config.signals} signals, "
            f"paired 95 % interval over signals.{own}",
        )
    )


def _claim_overfits(config: Config, run: Run, sweeps: Sweeps, alpha: float) -> None:
    low, one = sweeps[alpha, 0.0], sweeps[alpha, 1.0]
    ratio, interval = _over(low.test[PAPER], one.test[PAPER])
    train = float(low.train[PAPER].mean() / one.train[PAPER].mean())
    run.claim(
        Claim(
            name=f"low-p-overfits-alpha-{alpha:g}",
            statement=f"A lower p gives rise to overfitting: p = 0 against p = 1, α = {alpha:g}.",
            source=f"{SOURCE}, Fourier features in one dimension",
            expected="> 1, with its whole interval",
            measured=ratio,
            low=1.0,
            interval=interval,
            unit="test loss of p = 0 over that of p = 1",
            decided_by="interval",
            note=f"at the paper's time; training loss of p = 0 over that of p = 1 is {train:.2g}",
        )
    )


def _claim_one_p(config: Config, run: Run, sweeps: Sweeps) -> None:
    found = {
        (alpha, place): best(config, sweeps, alpha, place)
        for alpha in config.alphas
        for place in (PAPER, LATE)
    }
    listed = "; ".join(
        f"α = {alpha:g}, {when(config, place)}: {exact.shown(p)}" for (alpha, place), p in found.items()
    )
    run.claim(
        Claim(
            name="one-p-for-all",
            statement="One p is the best for every signal and time.",
            source=f"{SOURCE}: “p = 1 is the optimal choice”, with no word on signal or time",
            expected="1",
            measured=len(set(found.values())),
            high=1,
            unit=f"different best p in {len(found)} settings",
            note=listed,
        )
    )


def _claim_order(config: Config, run: Run, p: float) -> None:
    values = exact.kernel(config, p, config.width).eigenvalues()[: config.points // 2 + 1]
    inner = values[:-1]
    falls = (inner[1:] < inner[:-1] * (1 - 1e-9)).double().mean()
    run.claim(
        Claim(
            name=f"lower-frequencies-have-larger-eigenvalues-p-{exact.shown(p)}",
            statement=f"Larger eigenvalues belong to lower frequencies (p = {exact.shown(p)}).",
            source=f"{SOURCE}, after eq. 4",
            expected="1",
            measured=float(falls),
            low=1.0,
            unit="share of neighbouring frequencies where the eigenvalue falls",
            note=f"frequencies 0 … {config.points // 2 - 1}; at n/2, where the sine vanishes on the training points, "
            f"the eigenvalue is {float(values[-1] / values[-2]):.3g} of that before it",
        )
    )


def _claim_networks(config: Config, run: Run, trained: list[Trained]) -> None:
    apart = {(net.alpha, net.p): net.at(net.apart, 1.0) for net in trained}
    alpha, p = max(apart, key=lambda key: apart[key])
    late = max(net.at(net.apart, config.late) for net in trained)
    run.claim(
        Claim(
            name="kernels-predict-real-networks",
            statement="The kernel predicts what a real network outputs at the paper's time.",
            source=f"{SOURCE}, eq. 3, with the initial output",
            expected="≤ 0.1",
            measured=apart[alpha, p],
            high=0.1,
            unit="difference of outputs over the signal at the test points, root mean squares",
            note=f"the worst of {len(trained)} networks of width {config.net_width}: α = {alpha:g}, p = {exact.shown(p)}; "
            f"{late:.3g} at {config.late:g} × the time; {config.dtype}, η λ_max = {config.share:g}",
        )
    )


def _claim_same_best(config: Config, run: Run, trained: list[Trained]) -> None:
    wrong, notes, regret = 0, [], 1.0
    for alpha in config.trained_alphas:
        mine = [net for net in trained if net.alpha == alpha]
        for time in (1.0, config.late):
            real = min(mine, key=lambda net: net.at(net.real, time))
            told = min(mine, key=lambda net: net.at(net.predicted, time))
            wrong += real.p != told.p
            regret = max(regret, told.at(told.real, time) / real.at(real.real, time))
            notes.append(f"α = {alpha:g}, time {time:g}: {exact.shown(real.p)} ({exact.shown(told.p)})")
    run.claim(
        Claim(
            name="kernels-pick-the-best-p",
            statement="The p that the kernel predicts to be best is best for real networks.",
            source="fingerpost: selection before any training",
            expected="0",
            measured=wrong,
            high=0,
            unit=f"wrong picks in {len(notes)} settings",
            note=f"best among p = {', '.join(exact.shown(p) for p in config.trained)}, trained (predicted): "
            + "; ".join(notes)
            + f"; the predicted one's real test loss is at most {regret:.3g} times the best",
        )
    )
