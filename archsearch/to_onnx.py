"""A network as an ONNX model, with fresh or trained weights."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn

from archsearch.analyze import Analysis
from archsearch.build import DepthwiseConv2d, build
from archsearch.checkpoint import FORMAT
from archsearch.errors import ArchsearchError, CheckpointError

SEED = 0
"""Of fresh weights."""
MAX_BYTES = 2**31 - 2**24
"""An ONNX file is one protobuf message, below 2 GiB; the rest is left to its graph."""


def onnx_model(analysis: Analysis, checkpoint: Path | None) -> bytes:
    """The network set to inference: `image` (N, C, H, W) to `logits` (N, K), N dynamic.

    Args:
        analysis: which network.
        checkpoint: whose weights; null for fresh ones of seed `SEED`.

    Raises:
        CheckpointError: the checkpoint cannot be read, or is another network's.
        ArchsearchError: the network is too large for a file or for this machine.
    """
    if 4 * analysis.params > MAX_BYTES:
        raise ArchsearchError(
            f"{analysis.params:,} parameters do not fit into one ONNX file "
            f"(at most {MAX_BYTES // 4:,}); export to pytorch"
        )
    try:
        net = _fresh(analysis)
        if checkpoint:
            _load(net, checkpoint, analysis)
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


def _load(net: nn.Module, path: Path, analysis: Analysis) -> None:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        version, run, weights = int(state["format"]), str(state["run"]), dict(state["model"])
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:
        raise CheckpointError(
            f"{path}: is not a checkpoint that can be read ({type(error).__name__}); "
            "give the checkpoint.pt that archsearch train or search wrote"
        ) from error
    wanted = f"network {analysis.spec_hash[:12]}"
    if version != FORMAT or not run.startswith(f"{wanted} "):
        raise CheckpointError(
            f"{path}: belongs to another network ({run}, this is {wanted}); "
            "give the checkpoint beside this spec's own spec.json"
        )
    try:
        net.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: its weights do not fit this network: it is damaged, or of another version "
            "of archsearch"
        ) from error


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
