"""The experiments: one row here and one file each. Importing this costs nothing: no torch, no numpy.

An experiment is a module with ``Config`` (a frozen dataclass), ``PRESETS`` and ``run(config, run)``; see
``docs/architecture.md``. A user's own file of that shape does as well.
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

from fingerpost.errors import ConfigError, did_you_mean

__all__ = ["EXPERIMENTS", "Entry", "find_experiment", "load_experiment"]


class Entry(NamedTuple):
    """A row of the registry.

    Args:
      name: What is typed: ``fingerpost run <name>``.
      module: The dotted name of its module, or the path of a user's own file.
      title: A heading, without a full stop.
      summary: What it measures, in a sentence.
      systems: The systems of fingerpost that it uses.
    """

    name: str
    module: str
    title: str
    summary: str
    systems: tuple[str, ...]

    @property
    def is_file(self) -> bool:
        """Whether it is a user's own file."""
        return self.module.endswith(".py")

    @property
    def typed(self) -> str:
        """What is typed on a command line to mean it: its name, or the path of its file."""
        return self.module if self.is_file else self.name


EXPERIMENTS: dict[str, Entry] = {
    row.name: row
    for row in (
        Entry(
            "ep-synthetic",
            "fingerpost.experiments.ep_synthetic",
            "Equilibrium propagation on a made-up task",
            "The credit's two limits and its sign, measured where the exact gradient is known.",
            ("credit",),
        ),
        Entry(
            "ep-digits",
            "fingerpost.experiments.ep_digits",
            "Equilibrium propagation on handwritten digits",
            "Trains a deep network with the sign bug, its fix and backpropagation, and audits each.",
            ("credit",),
        ),
        Entry(
            "ep-mnist",
            "fingerpost.experiments.ep_mnist",
            "Equilibrium propagation on MNIST",
            "The same comparison on 28×28 images, read from files that you give with --data.",
            ("credit",),
        ),
        Entry(
            "audit-power",
            "fingerpost.experiments.audit_power",
            "What the audit can see",
            "Coverage of its intervals, false names on healthy nets, detection and naming of each fault.",
            (),
        ),
        Entry(
            "adjoint-three-losses",
            "fingerpost.experiments.adjoint_three_losses",
            "Adjoints for three kinds of loss",
            "Three gradients through an ODE, and the source's printed adjoint systems, audited and held to closed forms.",
            ("ode",),
        ),
        Entry(
            "neural-ode-spiral",
            "fingerpost.experiments.neural_ode_spiral",
            "A spiral's field from observations",
            "Learns a planar field from 100 noisy observations with three gradients: losses, fields, evaluations.",
            ("ode",),
        ),
        Entry(
            "cnf-2d",
            "fingerpost.experiments.cnf_2d",
            "Continuous flows for densities of the plane",
            "Fits flows by maximum likelihood and holds them to exact densities; density and field as pictures.",
            ("ode",),
        ),
        Entry(
            "adjoint-memory",
            "fingerpost.experiments.adjoint_memory",
            "What each gradient of an ODE costs",
            "Exact bytes, evaluations and gradient error of tape, checkpoint and backsolve against the number of steps.",
            ("ode",),
        ),
        Entry(
            "flow",
            "fingerpost.experiments.flow",
            "A density of your own table",
            "Fits, scores and samples a table that you give with --data, by flow matching, against three baselines.",
            ("flow", "ode"),
        ),
        Entry(
            "fm-equals-cfm",
            "fingerpost.experiments.fm_equals_cfm",
            "Flow matching by conditional pairs",
            "Whether the conditional loss has the marginal one's gradient, its noise, and the source's printed formulas.",
            ("flow", "ode"),
        ),
        Entry(
            "flow-tabular",
            "fingerpost.experiments.flow_tabular",
            "Flows on real tables",
            "Held-out likelihood on three of scikit-learn's tables against mixtures and kernels, over several splits.",
            ("flow", "ode"),
        ),
        Entry(
            "flow-images",
            "fingerpost.experiments.flow_images",
            "Flow matching on pictures of digits",
            "Class-conditional samples judged by a classifier and by their distances to training and held-out digits.",
            ("flow", "ode"),
        ),
        Entry(
            "md-observables",
            "fingerpost.experiments.md_observables",
            "A force field from averages over its trajectories",
            "Fits a ring of beads to its radial distribution and bond lengths, and measures how far back gradients reach.",
            ("ode",),
        ),
        Entry(
            "rice-merging",
            "fingerpost.experiments.rice_merging",
            "Amplitudes of a made-up crystal",
            "Learns structure-factor amplitudes from noisy intensities; errors, calibration and evidence against the truth.",
            ("distributions",),
        ),
        Entry(
            "flow-2d",
            "fingerpost.experiments.flow_2d",
            "Flows in the plane",
            "Paths, couplings and solver steps by Wasserstein distance and likelihood; what training without simulation saves.",
            ("flow", "ode"),
        ),
        Entry(
            "reparam-accuracy",
            "fingerpost.experiments.reparam_accuracy",
            "Digits of gradients through samples",
            "Errors of every velocity over each distribution's whole range, both precisions, beside other libraries'.",
            ("distributions",),
        ),
        Entry(
            "reparam-variance",
            "fingerpost.experiments.reparam_variance",
            "Noise of gradients through samples",
            "Implicit, explicit and score-function gradients: bias against quadrature, variance, and what a fit gains.",
            ("distributions",),
        ),
        Entry(
            "reparam-audit",
            "fingerpost.experiments.reparam_audit",
            "Audits of gradients through samples",
            "Every velocity and every rsample against the quantile's own path, with a wrong sign planted; torch's beside.",
            ("distributions",),
        ),
        Entry(
            "inplace-leak",
            "fingerpost.experiments.inplace_leak",
            "Memory that a line keeps",
            "In-place operations that leak and ones that do not, by measured growth, with the guard's report beside.",
            ("leakwatch",),
        ),
        Entry(
            "fourier-p",
            "fingerpost.experiments.fourier_p",
            "Which Fourier features are best",
            "The p sweep in one dimension by exact kernel dynamics and real networks, for three signals at two times.",
            ("spectral",),
        ),
        Entry(
            "spectral-bias",
            "fingerpost.experiments.spectral_bias",
            "Which frequencies are learned first",
            "Decay of each eigenmode of a trained network's error against log(1 − ηλ), by width and encoding.",
            ("spectral",),
        ),
        Entry(
            "ntk-dynamics",
            "fingerpost.experiments.ntk_dynamics",
            "Training as the tangent kernel predicts it",
            "Predicted against real training by width, output scale and learning rate, with and without the initial output.",
            ("spectral",),
        ),
        Entry(
            "image",
            "fingerpost.experiments.image",
            "A picture of your own by coordinate networks",
            "Learns a picture that you give with --path with and without Fourier features; σ by the tangent kernel.",
            ("spectral",),
        ),
        Entry(
            "fourier-image",
            "fingerpost.experiments.fourier_image",
            "Fourier features on pictures",
            "Four encodings in order on photographs and text, and σ predicted by the tangent kernel beside trained.",
            ("spectral",),
        ),
        Entry(
            "ct",
            "fingerpost.experiments.ct",
            "Tomography from twenty projections",
            "A coordinate network fitted to line integrals, with and without features, beside back-projection.",
            ("spectral",),
        ),
        Entry(
            "ppc-cues",
            "fingerpost.experiments.ppc_cues",
            "Two cues in population codes",
            "The sum of two populations against the product of posteriors and the two formulas, and an observer over trials.",
            ("population",),
        ),
        Entry(
            "ppc-breaks",
            "fingerpost.experiments.ppc_breaks",
            "Where summing populations breaks",
            "Ten conditions of the theorem broken one by one: distance from the true posterior, error, calibration, repair.",
            ("population",),
        ),
        Entry(
            "ppc",
            "fingerpost.experiments.ppc",
            "Your own spike counts, decoded",
            "Decodes held-out trials of a recording that you give with --data, with calibration, simple decoders beside.",
            ("population",),
        ),
        Entry(
            "join-instability",
            "fingerpost.experiments.join_instability",
            "Chained JOINs die or explode",
            "The size of a JOIN against that of its items, chains and trees of JOINs, and Valiant's item sizes recomputed.",
            ("neuroidal",),
        ),
        Entry(
            "transfer-curves",
            "fingerpost.experiments.transfer_curves",
            "Noise margins of JOIN and JOIN-LINK",
            "How much of C fires when part of A and B does, by thresholds, on graphs and in theory.",
            ("neuroidal",),
        ),
        Entry(
            "join-link-composition",
            "fingerpost.experiments.join_link_composition",
            "What unlimited composition costs",
            "Chains of JOIN-LINKs with noise, what else fires C, and many memories in one graph, beside one LINK.",
            ("neuroidal",),
        ),
        Entry(
            "mouse-cortex",
            "fingerpost.experiments.mouse_cortex",
            "A JOIN in a mouse's cortex",
            "JOINs among 16 million neurons and 125 billion synapses that are never stored: sizes, time and memory.",
            ("neuroidal",),
        ),
        Entry(
            "sutton-1988",
            "fingerpost.experiments.sutton_1988",
            "Sutton's random walk, Figures 3 to 5",
            "Errors of TD(λ) on thousands of training sets beside the printed ones, by the number of sequences in a set.",
            ("td",),
        ),
        Entry(
            "td-equals-supervised",
            "fingerpost.experiments.td_equals_supervised",
            "Where TD(1) is supervised learning",
            "The identity at λ = 1, audited for linear predictors and networks; how far λ < 1 and online changes break it.",
            ("td",),
        ),
        Entry(
            "td",
            "fingerpost.experiments.td",
            "Your own sequences, predicted",
            "Outcomes of your own sequences (--data) by TD(λ), Widrow–Hoff and regression: held-out error, calibration.",
            ("td",),
        ),
        Entry(
            "attention-numbers",
            "fingerpost.experiments.attention_numbers",
            "Number words, short and long",
            "English numbers into German ones by attention and two models with one context: by length, trained on or longer.",
            ("attention",),
        ),
        Entry(
            "attention-translation",
            "fingerpost.experiments.attention_translation",
            "Translation of your own parallel text",
            "Attention beside models with one context, on files that you give: BLEU by length, gaps, alignment maps.",
            ("attention",),
        ),
        Entry(
            "attention-length",
            "fingerpost.experiments.attention_length",
            "Sentences longer than those trained on",
            "Joins pairs of numbers in words, or of your own text: BLEU within and beyond trained lengths, and what breaks.",
            ("attention",),
        ),
        Entry(
            "attention-signal",
            "fingerpost.experiments.attention_signal",
            "Why attention works: the gradient's way to a word",
            "How much gradient a target word sends to each source word, by distance and length; the pass by hand, audited.",
            ("attention",),
        ),
        Entry(
            "attention-alignment",
            "fingerpost.experiments.attention_alignment",
            "Alignments where the truth is known",
            "Attention scored against known orders, by kind and length; what reading both ways decides, and eq. 8's last word.",
            ("attention",),
        ),
    )
}


def find_experiment(name_or_path: str) -> Entry:
    """Finds an experiment without importing it.

    Args:
      name_or_path: A registered name, or the path of a user's own file (it ends in ``.py``).

    Raises:
      ConfigError: If there is no such experiment; the message suggests the nearest name.

    >>> find_experiment("ep-digits").systems
    ('credit',)
    """
    if name_or_path in EXPERIMENTS:
        return EXPERIMENTS[name_or_path]
    if name_or_path.endswith(".py"):
        from fingerpost.experiments.loading import entry_of_file

        return entry_of_file(name_or_path)
    hint = (
        did_you_mean(name_or_path, EXPERIMENTS)
        or "; fingerpost list names them; your own is a path ending in .py"
    )
    raise ConfigError(f"there is no experiment {name_or_path!r}{hint}")


def load_experiment(name_or_path: str) -> ModuleType:
    """Imports an experiment and checks that it has the shape of one. Does not import torch by itself.

    Args:
      name_or_path: A registered name, or the path of a user's own file (it ends in ``.py``).

    Returns:
      The module, with ``Config``, ``PRESETS`` and ``run``.

    Raises:
      ConfigError: If there is no such experiment, it cannot be imported, or a part is missing or wrong.
    """
    from fingerpost.experiments.loading import load_entry

    return load_entry(find_experiment(name_or_path))
