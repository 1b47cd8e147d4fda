"""How much gradient reaches a source word from a target word, with attention and without; the backward pass audited."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost.errors import ConfigError
from fingerpost.experiments import _attention_signal_audits as audits
from fingerpost.experiments import _attention_signal_reach as reaching
from fingerpost.experiments import _attention_signal_results as results
from fingerpost.experiments import _permutations as permutations
from fingerpost.experiments import _translation as translation
from fingerpost.lab import Run, derive_seed

torch = lazy_import("torch")
attention = lazy_import("fingerpost.attention")

AUDITED = ("search", "encdec")
LEAST_UNITS = 8


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      seed: First seed of trainings, and seed of the sentences.
      seeds: Trainings of each model, at least two: intervals are over them.
      order: Which order of the source words the target is: copy, reverse, swap, rotate or halves.
      words: Number of words of either language.
      shortest: Fewest words of a training sentence.
      longest: Most words of a training sentence.
      measured: Lengths at which gradient and translations are measured, in words; at least three of them trained on.
      sentences: Sentences of each length whose gradient is measured.
      tests: Sentences of each length that are translated.
      pairs: Training pairs.
      held: Pairs that the training is watched with.
      embedding: Numbers of a word's embedding.
      hidden: Numbers of a state in each direction, of the layer of the attention and of the deep output.
      dropout: Probability with which numbers are left out in training.
      epochs: Passes over the training pairs.
      batch_size: Pairs of a training step.
      rate: Adam's learning rate at its start.
      beam: Width of the beam; 1 takes the best word each time.
      device: Where models are trained and translate; gradients are measured on the processor, in float64.
      units: Parts of the sentences in an audit, two sentences each.
      audit_longest: Most words of a sentence that is audited; the fewest are two.
      faults: Which faults are planted: see the experiment's page of results.
      fault_states: At which weights they are audited: start, trained.
      reuse: Runs, separated by commas, from which trained models are taken.
    """

    seed: int = 0
    seeds: int = 3
    order: str = "reverse"
    words: int = 24
    shortest: int = 4
    longest: int = 60
    measured: tuple[int, ...] = (10, 20, 30, 40, 60, 80)
    sentences: int = 8
    tests: int = 100
    pairs: int = 40000
    held: int = 500
    embedding: int = 128
    hidden: int = 128
    dropout: float = 0.0
    epochs: int = 2
    batch_size: int = 64
    rate: float = 3e-3
    beam: int = 5
    device: str = "cpu"
    units: int = 12
    audit_longest: int = 5
    faults: tuple[str, ...] = tuple(audits.FAULTS)
    fault_states: tuple[str, ...] = reaching.STATES
    reuse: str = ""


PRESETS = {
    "quick": Config(
        words=12, longest=24, measured=(6, 12, 18, 24, 36, 48), sentences=6, tests=50, pairs=3200, held=100, embedding=48,
        hidden=48, epochs=3, batch_size=32, rate=6e-3, beam=1, units=8, audit_longest=4,
        faults=("scores", "sign", "decoder"), fault_states=("trained",),
    ),
    "full": Config(),
}  # fmt: skip


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work."""
    translation.check_recipe(config)
    if config.order not in permutations.ORDERS:
        raise ConfigError(f"order is {config.order!r}; expected one of {', '.join(permutations.ORDERS)}")
    if config.seeds < 2:
        raise ConfigError(f"seeds is {config.seeds}; intervals over trainings need at least 2")
    if not 2 <= config.shortest <= config.longest:
        raise ConfigError(
            f"shortest is {config.shortest} and longest {config.longest}; a sentence has at least two words"
        )
    lengths = config.measured
    trained = [n for n in lengths if config.shortest <= n <= config.longest]
    if list(lengths) != sorted(set(lengths)) or len(trained) < 3 or min(lengths) < 4:
        raise ConfigError(
            f"measured is {lengths}; expected lengths of at least 4 that rise, three of them between shortest and longest"
        )
    translation.check_least(config, 2, "words", "sentences", "tests", "pairs", "held")
    if config.units < LEAST_UNITS or config.audit_longest < 2:
        raise ConfigError(
            f"units is {config.units} and audit_longest {config.audit_longest}; an audit needs {LEAST_UNITS} parts, and "
            "sentences have two words or more"
        )
    _check_names("faults", config.faults, audits.FAULTS)
    _check_names("fault_states", config.fault_states, reaching.STATES)


def _check_names(name: str, given: tuple[str, ...], known: Any) -> None:
    if not given or not set(given) <= set(known):
        raise ConfigError(f"{name} is {given}; expected some of {', '.join(known)}")


def run(config: Config, run: Run) -> None:
    """Trains all models, measures the gradient before and after, and audits the pass that trained them."""
    corpus, recipe = corpus_of(config), translation.recipe_of(config)
    found = results.Found()
    for seed in range(config.seed, config.seed + config.seeds):
        for kind in translation.MODELS:
            translator, facts = translation.trained(kind, corpus, recipe, seed, run)
            start = translation.new_model(kind, corpus.source.size, corpus.target.size, recipe, seed)
            found.facts[kind, seed] = facts
            models = dict(zip(reaching.STATES, (start, translator.model)))
            for state, model in models.items():
                stage = f"reach-{state}-{kind}-{seed}"
                found.reach[kind, state, seed] = run.once(
                    stage, lambda model=model, kind=kind: reach_by_length(config, model, kind)
                )
            found.scores[kind, seed] = run.once(
                f"scores-{kind}-{seed}", lambda translator=translator: scores(config, translator, recipe)
            )
            if kind in AUDITED and seed == config.seed:
                for state, model in models.items():
                    found.reports.update(audits_of(config, run, kind, state, model))
    results.show(config, run, found)


def corpus_of(config: Config) -> translation.Corpus:
    """Sentences to train on, and those that the training is watched with."""
    made = {
        name: permutations.task(
            config.order,
            count,
            (config.shortest, config.longest),
            config.words,
            derive_seed(config.seed, name),
        )
        for name, count in (("train", config.pairs), ("held", config.held))
    }
    sides = [permutations.segmenter_of(made["train"]) for _ in range(2)]
    return translation.Corpus(*(permutations.text_of(part) for part in made.values()), *sides)


def of_length(config: Config, name: str, words: int, count: int) -> permutations.Task:
    """New sentences of one length, the same for every model."""
    seed = derive_seed(config.seed, f"{name}-{words}")
    return permutations.task(config.order, count, (words, words), config.words, seed)


def reach_by_length(config: Config, model: Any, kind: str) -> dict[str, Any]:
    """What `reach` finds, by length; maps are kept of the shortest length alone that is long enough to be seen."""
    found = {}
    for n in config.measured:
        made = reaching.reach(model, kind, of_length(config, "reach", n, config.sentences))
        if n != map_length(config):
            del made["map"]
        found[str(n)] = made
    return found


def map_length(config: Config) -> int:
    """The length whose maps are shown: the longest trained on of at most 30 words, so that cells can be seen."""
    return max([n for n in config.measured if n <= min(config.longest, 30)], default=config.measured[0])


def scores(config: Config, translator: Any, recipe: translation.Recipe) -> dict[str, list[float]]:
    """By length: perplexity of the true translation, and the share of sentences that come out right in all words."""
    found: dict[str, list[float]] = {"perplexity": [], "exact": []}
    for n in config.measured:
        made = of_length(config, "test", n, config.tests)
        text = permutations.text_of(made)
        pairs = attention.EncodedPairs(made.source, made.target)
        found["perplexity"].append(translation.held_out_perplexity(translator.model, pairs, recipe))
        output = translation.output_of(translation.translations(translator, text.source, recipe))
        right = sum(one == other for one, other in zip(output.lines, text.target))
        found["exact"].append(right / len(text))
    return found


def audits_of(config: Config, run: Run, kind: str, state: str, model: Any) -> dict[Any, Any]:
    """Reports of the hand-written pass and of each fault, by kind, state and fault."""
    seed = derive_seed(config.seed, "audit")
    made = permutations.task(config.order, 2 * config.units, (2, config.audit_longest), config.words, seed)
    planted = [name for name in audits.faults_of(kind) if name in config.faults]
    found = {}
    for fault in (audits.BY_HAND, *(planted if state in config.fault_states else ())):
        stage = f"audit-{state}-{kind}-{fault.replace(' ', '-')}"
        text = run.once(
            stage, lambda fault=fault: audits.audited(model, made, config.units, fault, config.seed)
        )
        found[kind, state, fault] = text
    return found
