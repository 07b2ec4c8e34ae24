"""A spec against its module: parameters counted, and the logits of a random batch compared."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType

import torch
from torch import Tensor, nn

from archsearch.analysis.analyze import Analysis
from archsearch.convert.from_module.traced import Traced, brief, noise, trace
from archsearch.convert.to_module import DepthwiseConv2d, build
from archsearch.errors import InputError, Problem
from archsearch.spec.network import Network

TOLERANCE = 1e-8
"""Of the logits in double precision, relative to the largest."""
RUNS_BEFORE_BLAME = 8
"""Of a module that does not agree with its spec: dice may have fallen alike twice."""


def check(
    analysis: Analysis,
    traced: Traced,
    modules: list[nn.Module],
    count: int,
    softmax: Callable[[Tensor], Tensor] | None,
) -> None:
    """Hold a spec to the module that it was read from; changes the module's weights.

    The spec's network is built with the weights of `modules`, which hold the module's in order;
    `count` is of the parameters that forward uses.

    Raises:
        InputError: the module gives no finite logits, other ones each time, or others than the
            spec.
    """
    network, module = analysis.network, traced.root
    image, name = noise(network.image.shape).double(), network.spec.name
    with torch.no_grad():
        _shake(module.double(), torch.Generator().manual_seed(1))
        expected = _run(module, image, name)
        if not expected.isfinite().all():
            message = "gives NaN or infinity, so that nothing can be checked; give it other weights"
            raise InputError(name, [Problem("forward", "forward", message)])
        again = [_run(module, image, name)]
        logits = _rebuilt(network, modules)(image)
        error = _apart(softmax(logits) if softmax else logits, expected)
        agrees = analysis.params == count and error <= TOLERANCE
        if not agrees:
            again += [_run(module, image, name) for _ in range(RUNS_BEFORE_BLAME)]
    alike = all(run.shape == expected.shape and _apart(run, expected) <= TOLERANCE for run in again)
    if not alike or not (agrees or _traces_alike(traced, network)):
        message = (
            "does something else when it runs again on the same batch in evaluation: it changes "
            "its own state or uses random numbers, which a spec cannot express; take that out"
        )
        raise InputError(name, [Problem("forward", "runs-differ", message)])
    if not agrees:
        message = (
            "a bug in archsearch: the spec does not compute what the module does (parameters "
            f"{analysis.params:,} and {count:,}, logits apart by {error:.1e} of the largest); "
            "nothing was written: please report it with this module"
        )
        raise InputError(name, [Problem("", "import-check", message)])


def _traces_alike(traced: Traced, network: Network) -> bool:
    """Whether the module still does what it did when it was traced."""
    module, image = traced.root.get_submodule("net").float(), network.spec.input
    again = trace(module, image.shape, network.spec.name)
    return str(again.graph) == str(traced.graph)


def _run(module: nn.Module, image: Tensor, name: str) -> Tensor:
    """The module's logits; the image is left as it is, whatever forward does in place."""
    try:
        logits: Tensor = module(image.clone()).flatten(1)
        return logits
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        message = f"forward fails in double precision, which the check needs: {brief(error)}"
        raise InputError(name, [Problem("forward", "forward", message)]) from error


def _apart(got: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest value; values may all be zero."""
    largest = expected.abs().max().clamp(min=torch.finfo(expected.dtype).tiny)
    return float((got - expected).abs().max() / largest)


def _shake(module: nn.Module, generator: torch.Generator) -> None:
    """Change all weights and statistics a little: fresh norms are all alike, and hide a mix-up."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            amount = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype)
            tensor.mul_(0.75 + amount / 2).add_(amount / 20)


def _rebuilt(network: Network, modules: list[nn.Module]) -> nn.Module:
    """The network that a spec builds, with the weights and the eps of `modules`, in order."""
    with torch.device("meta"):
        net = build(network).eval()
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
    return net
