"""Diagnose why a network fails: check rules on its spec, recipe and training log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from os import PathLike
from pathlib import Path

from archsearch.analysis import constraints as limits
from archsearch.analysis.analyze import Analysis, analyze
from archsearch.analysis.constraints import Constraints
from archsearch.common.parse import Given, source_of
from archsearch.diagnosis import layer_order, output_head, recipes, windows
from archsearch.diagnosis.agreement import agreeing
from archsearch.diagnosis.findings import Finding
from archsearch.diagnosis.log_file import Logged, read_training_log
from archsearch.diagnosis.rules import LEVELS, RULES, SUBJECTS, Level
from archsearch.diagnosis.training_log import history_findings
from archsearch.errors import named_as
from archsearch.spec.load import load_spec
from archsearch.spec.models import Spec
from archsearch.training.recipe import Recipe
from archsearch.training.recipe_files import load_recipe
from archsearch.training.records import Epoch

_OF_NETWORK: tuple[Callable[[Analysis], Iterator[Finding]], ...] = (
    layer_order.linear_network,
    layer_order.no_activation,
    layer_order.no_norm,
    windows.depthwise_on_image,
    windows.skipped_cells,
    windows.padded_pointwise,
    windows.padding_kernel,
    layer_order.bottleneck,
    output_head.on_logits,
    output_head.head,
    output_head.dropout,
    windows.idle_dilation,
    windows.downsampling,
)
_OF_RECIPE: tuple[Callable[[Recipe], Iterator[Finding]], ...] = (
    recipes.few_steps,
    recipes.long_steps,
    recipes.sgd_alone,
    recipes.default_start,
    recipes.flat_schedule,
    recipes.large_batch,
    recipes.heavy_augmentation,
    recipes.no_augmentation,
    recipes.decayed_norms,
    recipes.no_weight_decay,
    recipes.stops_at_target,
)
_SAME = {"blind-cells": "padded-pointwise", "dead-weights": "padding-kernel"}
"""Warnings of the analyzer, and the rules that say the same of the same place, with a mend."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The findings on a network, most severe first.

    Attributes:
        analysis: analysis of the network.
        recipe: the recipe, or None if none was given.
        findings: errors, then warnings, then notes.
        overruled: rules whose fix would undo what the findings ask for.
    """

    analysis: Analysis
    recipe: Recipe | None
    findings: tuple[Finding, ...]
    overruled: frozenset[str] = frozenset()

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    @property
    def failed(self) -> bool:
        """Whether anything is an error."""
        return any(level_of(each) == "error" for each in self.findings)


def level_of(finding: Finding) -> Level:
    """How grave it is."""
    return RULES[finding.code].level


def diagnose(
    spec: Spec | Given,
    recipe: Recipe | Given | None = None,
    history: Iterable[Epoch] | str | PathLike[str] | None = None,
    *,
    constraints: Constraints | Given | None = None,
) -> Diagnosis:
    """Explain why a network fails: report each finding with its evidence and a fix.

    Args:
        spec: a `Spec`, a spec file or a dict.
        recipe: the training recipe: a name, a file, a dict or a `Recipe`.
        history: the training log: a CSV or JSON file, or the epochs of a run.
        constraints: a name ("cifar10-200k", the default), a file, a dict or `Constraints`.

    Raises:
        InputError: an argument is invalid; the error lists all problems.
        ArchsearchError: a file cannot be read.

    Example:
        >>> import archsearch as asr
        >>> found = asr.diagnose("studies/seeds/era-s9/spec.json", recipe={"epochs": 1})
        >>> found.failed, [each.code for each in found][:2]
        (True, ['over-limit', 'linear-network'])
    """
    kept = limits.load_constraints(constraints)
    how = None if recipe is None else load_recipe(recipe)
    with named_as(source_of(spec)):
        analysis = analyze(load_spec(spec))
    if history is None:
        log: tuple[Logged, ...] = ()
    elif isinstance(history, str | PathLike):
        log = read_training_log(Path(history), analysis.spec.classes)
    else:
        log = tuple(Logged.of(epoch) for epoch in history)
    return diagnosis_of(analysis, kept, how, log)


def diagnosis_of(
    analysis: Analysis,
    constraints: Constraints,
    recipe: Recipe | None = None,
    history: Sequence[Logged] = (),
) -> Diagnosis:
    """Check every rule on a network, its recipe and its training log."""
    # What a log shows goes before what a recipe or a network leads to expect.
    found, overruled = agreeing(
        [
            *(history_findings(history, analysis.spec.classes, recipe) if history else ()),
            *(recipe_findings(recipe) if recipe else ()),
            *network_findings(analysis, constraints),
        ]
    )
    found.sort(key=_order)
    return Diagnosis(analysis, recipe, tuple(found), overruled)


def _order(finding: Finding) -> tuple[int, int]:
    """Order by level, and within one by the network, the recipe and the log."""
    rule = RULES[finding.code]
    return LEVELS.index(rule.level), SUBJECTS.index(rule.subject)


def network_findings(analysis: Analysis, constraints: Constraints) -> Iterator[Finding]:
    """Of a spec alone: the limits that it breaks, then what costs it accuracy."""
    for broken in limits.violations(analysis.totals, limits.active_rules(constraints)):
        yield Finding("over-limit", "", f"{broken.rule}: {broken.message}", "see the edits below")
    told: set[tuple[str, str]] = set()
    for check in _OF_NETWORK:
        for finding in check(analysis):
            told.add((finding.code, finding.place))
            yield finding
    for warning in analysis.warnings:
        if (_SAME.get(warning.code, ""), warning.place) not in told:
            evidence, _, mend = warning.message.rpartition("; ")
            yield Finding(warning.code, warning.place, evidence or mend, mend if evidence else "")


def recipe_findings(recipe: Recipe) -> Iterator[Finding]:
    """Of a recipe alone."""
    return chain.from_iterable(check(recipe) for check in _OF_RECIPE)
