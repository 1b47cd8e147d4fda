"""What join-link-composition claims, and the figures that its claims and its tables share."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from fingerpost._lazy import lazy_import
from fingerpost.experiments import _neuroidal_circuits as circuits
from fingerpost.experiments._neuroidal_intervals import SOURCE, Share, percent, share, summary
from fingerpost.lab import Claim, Run

if TYPE_CHECKING:
    from fingerpost.experiments.join_link_composition import Config

np = lazy_import("numpy")
theory = lazy_import("fingerpost.neuroidal.theory")

Chains = list[dict[str, Any]]
Crowds = list[dict[str, dict[str, list[list[float]]]]]
KINDS = ("A", "B", "A and D", "D and E")
LIMIT = 0.01
"""Share of C above which two other items are said to disturb it."""
MANY = 1 << 14
"""Theory looks at no more memories than that."""
FALSE = 0.05
"""Share of trials in which C may be recognised falsely."""
NOISY = 0.9
"""Share of the first item that fires where noise is spoken of, if it was tried."""
OURS = "fingerpost: the source does not test it"


def setting(config: Config) -> str:
    """What stands beside every figure."""
    return f"n = {config.n:,}, d = {config.degree}, r = {config.r}, k = {config.k}"


def signal(chains: Chains, circuit: circuits.Circuit, name: str) -> Any:
    """Share of C that fires, shape (graphs, links)."""
    return np.array([chain[circuit.name]["signals"][name] for chain in chains])


def survives(chains: Chains, circuit: circuits.Circuit, name: str) -> bool:
    """Whether C is recognised, by more than half of its neurons, at every link on every graph."""
    return bool((signal(chains, circuit, name) > 0.5).all())


def falsely(chains: Chains, circuit: circuits.Circuit, kind: str) -> list[float]:
    """Mean share of C that fires when it should not, on each graph."""
    return [float(np.mean(chain[circuit.name][kind])) for chain in chains]


def recognised(chains: Chains, circuit: circuits.Circuit, kind: str) -> Share:
    """How often C is recognised when it should not be, over all trials."""
    shares = np.array([chain[circuit.name][kind] for chain in chains])
    return share(int((shares > 0.5).sum()), shares.size)


def worst_kind(chains: Chains, circuit: circuits.Circuit) -> tuple[str, Share]:
    """The kind of firing by which C is most often recognised falsely; the one that fires more of C, if several are."""

    def rank(kind: str) -> tuple[float, float]:
        return recognised(chains, circuit, kind).share, sum(falsely(chains, circuit, kind))

    kind = max(KINDS, key=rank)
    return kind, recognised(chains, circuit, kind)


def noisy(config: Config) -> str:
    """The signal whose first item has a tenth of its neurons silent, or the next less noisy one that was tried."""
    return f"first {min(x for x in config.first if x >= NOISY):g}"


def usable(config: Config, chains: Chains, circuit: circuits.Circuit) -> bool:
    """Whether noise is survived and nothing else is recognised."""
    return survives(chains, circuit, noisy(config)) and worst_kind(chains, circuit)[1].share <= FALSE


def crowded(filled: Crowds, circuit: circuits.Circuit, kind: str) -> Any:
    """(share of C, others over r) for each graph and number of memories, shape (graphs, numbers, 2)."""
    return np.array([crowd[circuit.name][kind] for crowd in filled])


def measured_capacity(config: Config, filled: Crowds, circuit: circuits.Circuit) -> float:
    """Memories at which two other items first fire more than `LIMIT` of C, by the mean over graphs."""
    shares = crowded(filled, circuit, "D and E")[..., 0].mean(0)
    return circuits.crossing(np.array(config.memories), shares, LIMIT)


def expected_capacity(config: Config, circuit: circuits.Circuit) -> float:
    """The same in theory, up to `MANY`: the first number beyond the last that keeps to the limit."""
    world = config.n, config.degree, config.r, circuit
    if theory.crowding(*world, MANY) <= LIMIT:
        return float("inf")
    return theory.capacity(*world, LIMIT) + 1.0


def passed(memories: float) -> str:
    """A capacity in words."""
    return f"at {memories:.3g} memories" if memories < float("inf") else "at none of these numbers"


def state(
    config: Config,
    run: Run,
    chains: Chains,
    filled: Crowds,
    wired: list[circuits.Circuit],
    packed: list[circuits.Circuit],
) -> None:
    """All claims."""
    plain = circuits.Circuit("join-link", 2 * config.k, config.k)
    slight = max(by for by in config.lowered if by <= 4)
    lowered = circuits.Circuit("join-link", 2 * config.k - slight, config.k)
    _stability(config, run, chains, wired, plain, lowered)
    _specificity(config, run, chains, plain, lowered)
    _both(config, run, chains, wired)
    _direct(config, run, chains, wired[-1])
    _crowd(config, run, filled, packed)
    _any_thresholds(config, run)
    _theory(config, run, chains, filled, wired, packed)


def _stability(
    config: Config,
    run: Run,
    chains: Chains,
    wired: list[circuits.Circuit],
    plain: circuits.Circuit,
    lowered: circuits.Circuit,
) -> None:
    note = f"{config.graphs} graphs; {setting(config)}"
    literal = [circuit for circuit in wired if circuit.form == "join-link"]
    sizes = {circuit: min(min(chain[circuit.name]["size"]) for chain in chains) for circuit in literal}
    worst = min(literal, key=lambda circuit: sizes[circuit])
    run.claim(
        Claim(
            name="stable-size",
            statement="JOIN-LINK removes the instability of size: every C of a chain fires whole for its pair.",
            source=SOURCE,
            expected="≥ 0.99",
            measured=sizes[worst],
            low=0.99,
            unit=f"share of C that fires, the smallest over {config.links} links and all thresholds",
            note=f"{worst.label}; {note}",
        )
    )
    told = [(noisy(config), "composition-first", "noise in the first item is restored")]
    if config.partners:
        told.append(
            (f"every {min(config.partners):g}", "composition-every", "noise in every item never adds up")
        )
    for name, called, words in told:
        mean, interval = summary([float(curve.min()) for curve in signal(chains, lowered, name)])
        run.claim(
            Claim(
                name=called,
                statement=f"With lowered thresholds {words}.",
                source=f"{SOURCE}: unlimited composition",
                expected="≥ 0.95",
                measured=mean,
                low=0.95,
                interval=interval,
                decided_by="interval",
                unit=f"share of C that fires, the smallest over {config.links} links",
                note=f"{percent(float(name.partition(' ')[2]))} of it fires; {lowered.label}; {note}",
            )
        )
    start = min(config.first, key=lambda x: abs(x - 0.95))
    mean, interval = summary([float(curve[-1]) for curve in signal(chains, plain, f"first {start:g}")])
    run.claim(
        Claim(
            name="lowering-needed",
            statement="Without lowered thresholds a little noise in the first item ends the chain.",
            source=f"{SOURCE}, which lowers them for that",
            expected="≤ 0.5",
            measured=mean,
            high=0.5,
            interval=interval,
            unit="share of the last C that fires",
            note=f"{percent(start)} of the first item fires; {plain.label}; {note}",
        )
    )


def _specificity(
    config: Config, run: Run, chains: Chains, plain: circuits.Circuit, lowered: circuits.Circuit
) -> None:
    for circuit, called, words in (
        (plain, "specific-unlowered", "Without lowered thresholds"),
        (lowered, "specific-lowered", "With lowered thresholds"),
    ):
        kind, worst = worst_kind(chains, circuit)
        run.claim(
            Claim(
                name=called,
                statement=f"{words} C is recognised if and only if both A and B are.",
                source=f"{SOURCE}, of a JOIN",
                expected=f"≤ {FALSE:g}",
                measured=worst.share,
                high=FALSE,
                interval=worst.interval,
                unit="share of trials in which C is recognised falsely, the worst of four kinds",
                note=f"by {kind}; {config.probed * config.graphs} trials of each kind; {circuit.label}; {setting(config)}",
            )
        )
    first = min((by for by in config.lowered if by), default=0)
    if first:
        circuit = circuits.Circuit("join-link", 2 * config.k - first, config.k)
        found = recognised(chains, circuit, "D and E")
        run.claim(
            Claim(
                name="first-lowering-ends-specificity",
                statement=f"Lowering k_m by {first} makes JOIN-LINK recognise C for any two items.",
                source=OURS,
                expected="≥ 0.95",
                measured=found.share,
                low=0.95,
                interval=found.interval,
                unit="share of trials in which two other items fire more than half of C",
                note=f"{circuit.label}; the larger JOIN makes most neurons relays, for every pair; {setting(config)}",
            )
        )


def _both(config: Config, run: Run, chains: Chains, wired: list[circuits.Circuit]) -> None:
    """Whether any threshold has stability and specificity at once."""
    for form, called, words in (
        ("join-link", "join-link-usable", "Some thresholds make JOIN-LINK stable and specific at once."),
        (
            "via-join",
            "via-join-usable",
            "With JOIN's neurons as LINK's relays some thresholds are stable and specific.",
        ),
    ):
        tried = [circuit for circuit in wired if circuit.form == form]
        good = [circuit.label for circuit in tried if usable(config, chains, circuit)]
        run.claim(
            Claim(
                name=called,
                statement=words,
                source=f"{SOURCE}: adequate margins, with C for A and B only"
                if form == "join-link"
                else f"{SOURCE}, read with one layer less",
                expected="≥ 1",
                measured=len(good),
                low=1,
                unit=f"of {len(tried)} pairs of k_m and k_a",
                note=f"survives {noisy(config)} over {config.links} links, false recognition in at most {percent(FALSE)} of "
                f"trials: {'; '.join(good) or 'none'}; {setting(config)}",
            )
        )


def _direct(config: Config, run: Run, chains: Chains, direct: circuits.Circuit) -> None:
    name = f"first {min(config.first):g}"
    mean, interval = summary([float(curve.min()) for curve in signal(chains, direct, name)])
    note = (
        f"k = {direct.k_a}, by theory: the worse of C's silent share for A and B and its firing share for A alone is least; "
        f"{config.graphs} graphs; {setting(config)}"
    )
    run.claim(
        Claim(
            name="direct-link-carries",
            statement="One LINK from A and B to C, with its own threshold, carries a noisy signal down the chain.",
            source=OURS,
            expected="> 0.5",
            measured=mean,
            low=0.5,
            interval=interval,
            decided_by="interval",
            unit=f"share of C that fires, the smallest over {config.links} links",
            note=f"{percent(min(config.first))} of the first item fires; {note}",
        )
    )
    kind, worst = worst_kind(chains, direct)
    run.claim(
        Claim(
            name="direct-link-specific",
            statement="That LINK recognises C for both items only.",
            source=OURS,
            expected=f"≤ {FALSE:g}",
            measured=worst.share,
            high=FALSE,
            interval=worst.interval,
            unit="share of trials in which C is recognised falsely, the worst of four kinds",
            note=f"{kind} fires {percent(summary(falsely(chains, direct, kind))[0])} of C; {note}",
        )
    )


def _crowd(config: Config, run: Run, filled: Crowds, packed: list[circuits.Circuit]) -> None:
    for circuit in packed:
        if circuit.form == "join-link" and circuit.k_m != 2 * config.k:
            continue
        last = crowded(filled, circuit, "D and E")[:, -1, 0]
        mean, interval = summary(list(last))
        held = measured_capacity(config, filled, circuit)
        expected = expected_capacity(config, circuit)
        run.claim(
            Claim(
                name=f"unlimited-{circuit.name}",
                statement=f"Composition is unlimited: {config.memories[-1]} memories in a graph leave C to its pair "
                f"({circuit.label}).",
                source=SOURCE,
                expected=f"≤ {LIMIT:g}",
                measured=mean,
                high=LIMIT,
                interval=interval,
                unit="share of C that fires for two other items",
                note=f"{percent(LIMIT)} is passed {passed(held)}, in theory {passed(expected)}; {config.crowd_graphs} graphs; "
                f"{setting(config)}",
            )
        )


@cache
def frontiers(n: int, degree: float, r: int, k: int) -> dict[str, list[circuits.Frontier]]:
    """The best circuits of each form over a wide grid of thresholds, in theory."""
    k_m, k_a = range(max(1, 2 * k - 10), 2 * k + 5), range(max(1, k // 2), 2 * k + 3)
    return {form: circuits.frontier(n, degree, r, form, k_m, k_a) for form in circuits.FORMS}


def best_margins(n: int, degree: float, r: int, k: int) -> dict[str, circuits.Frontier | None]:
    """Of these, the one with the largest upper margin among those that don't recognise C by A and another item."""
    return {
        form: max((one for one in best if one.false <= 0.5), key=lambda one: one.upper, default=None)
        for form, best in frontiers(n, degree, r, k).items()
    }


def _any_thresholds(config: Config, run: Run) -> None:
    """The largest upper margin, over all thresholds, of a circuit that doesn't recognise C by A and another item."""
    found = best_margins(config.n, config.degree, config.r, config.k)
    margin = {form: 0.0 if one is None else one.upper for form, one in found.items()}
    notes = {
        form: "none" if one is None else f"{one.circuit.label}: {one.upper:.3f}"
        for form, one in found.items()
    }
    for form, called, words in (
        ("join-link", "join-link-any", "JOIN-LINK"),
        ("via-join", "via-join-any", "JOIN-LINK with the JOIN's neurons as relays"),
    ):
        run.claim(
            Claim(
                name=called,
                statement=f"Some thresholds give {words} an adequate upper margin, and C is silent for A and another.",
                source=SOURCE,
                expected=f"≥ {circuits.ADEQUATE:g}",
                measured=margin[form],
                low=circuits.ADEQUATE,
                unit="upper margin, the largest over thresholds at which at most half of C fires for A and D, by theory",
                note=f"{notes[form]}; {setting(config)}",
            )
        )
    run.claim(
        Claim(
            name="direct-link-any",
            statement="At its best threshold one LINK has a larger upper margin than either JOIN-LINK, by the same rule.",
            source=OURS,
            expected="> 1",
            measured=margin["link"] / max(margin["join-link"], margin["via-join"], 1e-9),
            low=1.0,
            unit="ratio of upper margins, by theory",
            note=f"{'; '.join(notes.values())}; {setting(config)}",
        )
    )


def _theory(
    config: Config,
    run: Run,
    chains: Chains,
    filled: Crowds,
    wired: list[circuits.Circuit],
    packed: list[circuits.Circuit],
) -> None:
    world = config.n, config.degree, config.r
    off = {
        f"{circuit.label}, {kind}": summary(falsely(chains, circuit, kind))[0]
        - theory.interference(*world, circuit, kind)
        for circuit in wired
        for kind in ("A", "A and D", "D and E")
    }
    many = {
        circuit.label: float(
            np.abs(
                crowded(filled, circuit, "D and E")[..., 0].mean(0)
                - theory.crowding(*world, circuit, np.array(config.memories))
            ).max()
        )
        for circuit in packed
    }
    for name, values, statement in (
        ("theory-false", off, "False firing of one memory is what binomial theory makes it."),
        ("theory-crowd", many, "False firing among many memories is what binomial theory makes it."),
    ):
        worst = max(values, key=lambda key: abs(values[key]))
        run.claim(
            Claim(
                name=name,
                statement=statement,
                source="fingerpost: its own check",
                expected="≤ 0.1",
                measured=abs(values[worst]),
                high=0.1,
                unit="share of C, the largest difference",
                note=f"at {worst}; {setting(config)}",
            )
        )
