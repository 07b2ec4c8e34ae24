"""Import an nn.Module as a spec: trace it with torch.fx, read its layers and compare the logits.

`traced` traces the module. `translate` turns each operation into a step (with `layers` and
`reshaping`). `branches`, `gates` and `folding` combine the steps into layers, and `sections`
groups the layers into blocks. `check` compares the spec with the module.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from torch import Tensor, nn
from torch.nn import functional as F

from archsearch.analysis.analyze import analyze
from archsearch.common.console import note
from archsearch.convert.from_module.branches import Structure
from archsearch.convert.from_module.calls import listed, note_lines
from archsearch.convert.from_module.check import check
from archsearch.convert.from_module.sections import spec_of
from archsearch.convert.from_module.steps import Plain, Step
from archsearch.convert.from_module.traced import Traced, brief, trace
from archsearch.convert.from_module.translate import translate
from archsearch.errors import InputError, Problem
from archsearch.spec.models import Flatten, Spec


@dataclass(frozen=True, slots=True)
class Imported:
    """A spec, and what its author should know of how it came about."""

    spec: Spec
    notes: tuple[str, ...]


def from_module(
    module: nn.Module,
    input: tuple[int, int, int] = (3, 32, 32),
    *,
    name: str | None = None,
    on_note: Callable[[str], None] = note,
) -> Spec:
    """Convert an `nn.Module` to a spec, without changing the module.

    Args:
        module: a module that maps (N, C, H, W) images to (N, K) logits.
        input: (channels, height, width) of one image.
        name: name of the spec; the module's class name by default.
        on_note: called with each note on the conversion; by default notes are printed.

    Raises:
        InputError: a spec cannot express the module; the error lists every unsupported part.

    Example:
        >>> from torch import nn
        >>> import archsearch as asr
        >>> conv = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU())
        >>> net = nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
        >>> spec = asr.from_module(net, input=(1, 28, 28), name="tiny")
        >>> asr.validate(spec).params
        170
    """
    imported = import_module(module, input, name or type(module).__name__)
    for message in imported.notes:
        on_note(message)
    return imported.spec


def import_module(module: nn.Module, input_shape: tuple[int, int, int], name: str) -> Imported:
    """The spec called `name` that computes what `module` does on (N, C, H, W) images.

    Raises:
        InputError: a spec cannot express it; with every place where that is so.
    """
    module = _copied(module, name)
    traced = trace(module, input_shape, name)
    step, notes = translate(traced, name)
    end, softmax = _logits(step)
    structure = Structure(end)
    shared = _shared(structure.live)
    # Two uses of one layer are no crossing of branches; told once, as what they are.
    problems = [p for p in structure.problems if not (shared and p.rule == "branches")]
    problems += shared + _hooked(module)
    if prod(end.shape[1:]) != 1 or not end.shape:
        shape = ", ".join(map(str, ("N", *end.shape)))
        message = f"returns ({shape}); a spec ends in one logit a class, (N, classes)"
        problems.append(end.where.problem("output", message))
    if not problems and not structure.pieces:
        problems.append(Problem("forward", "output", "has no layers; a spec has at least one"))
    if problems:
        raise InputError(name, problems)
    spec = spec_of(structure.pieces, module, name, input_shape, end.shape[0])
    used = {p for step in structure.live for inner in step.modules for p in inner.parameters()}
    said = (*note_lines(notes), *_training_only(traced), *_unused(module, used))
    if softmax:
        said += ("the softmax at the end is left out: a spec ends in logits",)
    modules = [inner for piece in structure.pieces for inner in piece.modules]
    count = sum(p.numel() for p in used)
    check(analyze(spec), traced, modules, count, softmax)
    return Imported(spec, said)


def _copied(module: nn.Module, name: str) -> nn.Module:
    """A copy to run and to change, in evaluation mode on the CPU."""
    if any(nn.parameter.is_lazy(p) for p in module.parameters()):
        message = "has lazy layers without a shape; name a function that runs it on a batch first"
        raise InputError(name, [Problem("", "lazy", message)])
    try:
        return copy.deepcopy(module).cpu().float().eval().requires_grad_(requires_grad=False)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        message = f"cannot be copied, and import changes no module of yours: {brief(error)}"
        raise InputError(name, [Problem("", "copy", message)]) from error


def _logits(step: Step) -> tuple[Step, Callable[[Tensor], Tensor] | None]:
    """The step before a softmax at the very end, and that softmax."""
    flattened = isinstance(step.op, Flatten) or step.op is Plain.RESHAPE
    last = step.inputs[0] if flattened and prod(step.inputs[0].shape[1:]) == 1 else step
    match last.op:
        case Plain.SOFTMAX:
            return last.inputs[0], lambda logits: F.softmax(logits, dim=1)
        case Plain.LOG_SOFTMAX:
            return last.inputs[0], lambda logits: F.log_softmax(logits, dim=1)
        case _:
            return step, None


# What no single step shows


def _shared(live: list[Step]) -> list[Problem]:
    """Weights that several layers use."""
    first: dict[nn.Parameter, Step] = {}
    problems = []
    for step in live:
        parameters = [p for module in step.modules for p in module.parameters()]
        taken = next((first[p] for p in parameters if p in first), None)
        if taken:
            message = (
                f"shares its weights with node {taken.where.node} ({taken.where.path}); a spec's "
                "layers each have their own: make one module for each use"
            )
            problems.append(step.where.problem("shared-weights", message))
        first |= {p: step for p in parameters if p not in first}
    return problems


def _hooked(module: nn.Module) -> list[Problem]:
    message = "has forward hooks, which a spec cannot express; remove them (weight_norm adds one)"
    return [
        Problem(path or "forward", "hooks", message)
        for path, inner in module.named_modules()
        if inner._forward_hooks or inner._forward_pre_hooks
    ]


def _training_only(traced: Traced) -> tuple[str, ...]:
    if not traced.asked:
        return ()
    lines = listed(list(traced.asked))
    return (
        f"forward asks self.training at {lines}: only what it does in evaluation is in the spec",
    )


def _unused(module: nn.Module, used: set[nn.Parameter]) -> tuple[str, ...]:
    unused = {path: p.numel() for path, p in module.named_parameters() if p not in used}
    if not unused:
        return ()
    count = sum(unused.values())
    return (f"forward never uses {count:,} parameters: {listed(list(unused))}",)
