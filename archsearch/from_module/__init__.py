"""An nn.Module as a spec: traced by torch.fx, read layer by layer, and checked by its logits.

`traced` runs it, `translate` makes a step of each operation (with `layers` and `joins`), `branches`
and `folding` make layers of the steps; here they become blocks, held against the module.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from types import MethodType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archsearch.analyze import analyze
from archsearch.build import DepthwiseConv2d, build
from archsearch.errors import InputError, Problem
from archsearch.from_module.branches import Structure
from archsearch.from_module.calls import listed, told
from archsearch.from_module.folding import Piece, fold, without_idle_flattens
from archsearch.from_module.steps import Plain, Step
from archsearch.from_module.traced import BATCH, brief, trace
from archsearch.from_module.translate import translate
from archsearch.network import Network
from archsearch.parse import from_mapping
from archsearch.spec import AvgPool, Flatten, GlobalAvgPool, MaxPool, Spec

TOLERANCE = 1e-8
"""Of the logits in double precision, relative to the largest."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A spec, and what its author should know of how it came about."""

    spec: Spec
    notes: tuple[str, ...]


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
    spec = _spec(structure.pieces, module, name, input_shape, end.shape[0])
    used = {p for step in structure.live for inner in step.modules for p in inner.parameters()}
    said = (*told(notes), *_unused(module, used))
    if softmax:
        said += ("the softmax at the end is left out: a spec ends in logits",)
    analysis = analyze(spec)
    modules = [inner for piece in structure.pieces for inner in piece.modules]
    error = _logits_error(analysis.network, module, modules, softmax)
    count = sum(p.numel() for p in used)
    if analysis.params != count or not error <= TOLERANCE:
        message = (
            "a bug in archsearch: the spec does not compute what the module does (parameters "
            f"{analysis.params:,} and {count:,}, logits apart by {error:.1e} of the largest); "
            "nothing was written: please report it with this module"
        )
        raise InputError(name, [Problem("", "import-check", message)])
    return Imported(spec, said)


def _copied(module: nn.Module, name: str) -> nn.Module:
    """A copy to run and to change, in evaluation mode on the CPU."""
    if any(nn.parameter.is_lazy(p) for p in module.parameters()):
        message = "has lazy layers without a shape; name a function that runs it on a batch first"
        raise InputError(name, [Problem("", "lazy", message)])
    try:
        return copy.deepcopy(module).cpu().float().eval().requires_grad_(requires_grad=False)
    except Exception as error:
        message = f"cannot be copied, and import changes no module of yours: {brief(error)}"
        raise InputError(name, [Problem("", "copy", message)]) from error


def _logits(step: Step) -> tuple[Step, Callable[[Tensor], Tensor] | None]:
    """The step before a softmax at the very end, and that softmax."""
    flattened = isinstance(step.op, Flatten) or step.op == Plain("reshape")
    last = step.inputs[0] if flattened and prod(step.inputs[0].shape[1:]) == 1 else step
    match last.op:
        case Plain(kind="softmax"):
            return last.inputs[0], lambda logits: F.softmax(logits, dim=1)
        case Plain(kind="log_softmax"):
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


def _unused(module: nn.Module, used: set[nn.Parameter]) -> tuple[str, ...]:
    unused = {path: p.numel() for path, p in module.named_parameters() if p not in used}
    if not unused:
        return ()
    count = sum(unused.values())
    return (f"forward never uses {count:,} parameters: {listed(list(unused))}",)


# Blocks


def _spec(
    pieces: list[Piece], module: nn.Module, name: str, shape: tuple[int, int, int], classes: int
) -> Spec:
    blocks, output = _sections(without_idle_flattens(pieces, logits=True), module)
    channels, height, width = shape
    raw = {
        "name": name,
        "input": {"channels": channels, "height": height, "width": width},
        "classes": classes,
        "blocks": [{"name": block, "layers": _plain(inner)} for block, inner in blocks],
        "output": {"layers": _plain(output)},
    }
    return from_mapping(Spec, raw, name)


def _plain(pieces: list[Piece]) -> list[dict[str, object]]:
    return [piece.layer.model_dump() for piece in fold(pieces)]


def _sections(
    pieces: list[Piece], module: nn.Module
) -> tuple[list[tuple[str, list[Piece]]], list[Piece]]:
    """Blocks by name, and the output: containers of the module's are blocks."""
    containers = {path for path, child in module.named_children() if any(child.children())}
    owners = [_owner(piece, containers) for piece in pieces]
    last = max((i for i, owner in enumerate(owners) if owner), default=-1) + 1
    blocks: list[tuple[str, list[Piece]]] = []
    for piece, owner in zip(pieces[:last], owners, strict=False):
        if not blocks or owner not in (None, blocks[-1][0]):
            blocks.append((owner or "stem", []))
        blocks[-1][1].append(piece)
    output = pieces[last:]
    if not output and len(blocks) > 1:
        output = blocks.pop()[1]
    if not blocks or not output:
        title = blocks[0][0] if blocks else "features"
        cut = next((i for i, piece in enumerate(pieces) if _ends_map(piece)), len(pieces) - 1)
        blocks, output = [(title, pieces[: max(1, cut)])], pieces[max(1, cut) :]
    # A spec has an output; on a single cell, a flatten is none.
    return _uniquely_named(blocks), output or [_idle_flatten(pieces[-1])]


def _owner(piece: Piece, containers: set[str]) -> str | None:
    """The first container that has a part in a layer."""
    tops = (path.partition(".")[0] for path in piece.paths)
    return next((top for top in tops if top in containers), None)


def _ends_map(piece: Piece) -> bool:
    pools = isinstance(piece.layer, AvgPool | MaxPool) and prod(piece.after[1:]) == 1
    return pools or isinstance(piece.layer, GlobalAvgPool | Flatten)


def _uniquely_named(
    blocks: list[tuple[str, list[Piece]]],
) -> list[tuple[str, list[Piece]]]:
    taken: set[str] = set()
    named = []
    for name, pieces in blocks:
        unique, count = name, 1
        while unique in taken:
            count += 1
            unique = f"{name}_{count}"
        taken.add(unique)
        named.append((unique, pieces))
    return named


def _idle_flatten(last: Piece) -> Piece:
    return Piece(Flatten(op="flatten"), (), (), last.after, last.after[:1])


# The check


def _logits_error(
    network: Network,
    module: nn.Module,
    modules: list[nn.Module],
    softmax: Callable[[Tensor], Tensor] | None,
) -> float:
    """How far apart the logits of a random batch are, relative to the largest.

    `network` is built with the weights of `modules`, which hold those of `module` in order.
    """
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(BATCH, *network.image.shape, generator=generator).double()
    module.double()
    _shake(module, generator)
    with torch.no_grad():
        expected = _run(module, image, network.spec.name)
        with torch.device("meta"):
            net = build(network)
        _copy_weights(modules, net)
        logits = net.eval()(image)
    got = softmax(logits) if softmax else logits
    return float((got - expected).abs().max() / expected.abs().max())


def _run(module: nn.Module, image: Tensor, name: str) -> Tensor:
    try:
        logits: Tensor = module(image).flatten(1)
    except Exception as error:
        message = f"forward fails in double precision, which the check needs: {brief(error)}"
        raise InputError(name, [Problem("forward", "forward", message)]) from error
    if not logits.isfinite().all():
        message = "gives NaN or infinity, so that nothing can be checked; give it other weights"
        raise InputError(name, [Problem("forward", "forward", message)])
    return logits


def _shake(module: nn.Module, generator: torch.Generator) -> None:
    """Change all weights and statistics a little: fresh norms are all alike, and hide a mix-up."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype)
            tensor.mul_(0.75 + noise / 2).add_(noise / 20)


def _copy_weights(modules: list[nn.Module], net: nn.Module) -> None:
    """Give `net` the weights and the eps of `modules`, in order."""
    layers = [
        layer for layer in net.modules() if isinstance(getattr(layer, "weight", None), Tensor)
    ]
    for source, layer in zip(modules, layers, strict=True):
        for name, tensor in (*layer.named_parameters(), *layer.named_buffers()):
            value = getattr(source, name).reshape(tensor.shape)
            frozen = nn.Parameter(value, requires_grad=False)
            setattr(layer, name, frozen if isinstance(tensor, nn.Parameter) else value)
        if isinstance(layer, DepthwiseConv2d):  # it would run in single precision
            layer.forward = MethodType(nn.Conv2d.forward, layer)  # type: ignore[method-assign]
        if hasattr(source, "eps"):
            layer.eps = source.eps
