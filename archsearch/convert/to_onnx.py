"""A network as an ONNX model, with fresh or trained weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import nn

from archsearch.analysis.analyze import Analysis
from archsearch.convert.to_module import DepthwiseConv2d, build
from archsearch.errors import ArchsearchError

SEED = 0
"""Of fresh weights."""
MAX_BYTES = 2**31 - 2**24
"""An ONNX file is one protobuf message, below 2 GiB; the rest is left to its graph."""


def onnx_model(
    analysis: Analysis, load_weights: Callable[[nn.Module], None] | None = None
) -> bytes:
    """The network set to inference: `image` (N, C, H, W) to `logits` (N, K), N dynamic.

    Args:
        analysis: which network.
        load_weights: fills the module; None keeps the fresh weights of seed `SEED`.

    Raises:
        ArchsearchError: the network is too large for a file or for this machine.
    """
    if 4 * analysis.params > MAX_BYTES:
        raise ArchsearchError(
            f"{analysis.params:,} parameters do not fit into one ONNX file "
            f"(at most {MAX_BYTES // 4:,}); export to pytorch"
        )
    try:
        net = _fresh(analysis)
        if load_weights:
            load_weights(net)
        return _exported(net.eval(), analysis.network.image.shape)
    except (RuntimeError, MemoryError) as error:
        why = str(error).splitlines()[0] if str(error) else "out of memory"
        raise ArchsearchError(f"torch cannot export this network: {why}") from error


def _fresh(analysis: Analysis) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        net = build(analysis.network)
    for module in net.modules():
        if isinstance(module, DepthwiseConv2d):
            # Its detours around slow CPU kernels are not part of the network.
            module.__class__ = nn.Conv2d  # type: ignore[assignment] # its subclass
    return net


def _exported(net: nn.Module, shape: tuple[int, ...]) -> bytes:
    batch = torch.zeros(2, *shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's notes to its own developers
        program = torch.onnx.export(
            net,
            (batch,),
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("N")},),
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise AssertionError("torch.onnx.export with dynamo=True gives a program")
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # stack traces, with this machine's paths
    return bytes(model.SerializeToString())
