"""`archsearch export`."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from archsearch.common.console import note
from archsearch.errors import ArchsearchError

if TYPE_CHECKING:
    from archsearch.analysis.analyze import Analysis
    from archsearch.analysis.constraints import Constraints

STDOUT = 1
ONNX_NEEDS = ("onnx", "onnxscript")
Target = Literal["pytorch", "onnx", "mermaid", "svg"]


def export(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="A spec file; - is standard input.")],
    to: Annotated[
        Target,
        typer.Option(
            help="A Python file that needs torch alone; a model for other runtimes; a diagram as "
            "text; a diagram as a picture."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to; standard output else.")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Whose weights go into an ONNX model; fresh ones else."),
    ] = None,
    constraints: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Limits as JSON that an SVG tells, with the verdict; null switches one off.",
        ),
    ] = None,
) -> None:
    """Write a network as PyTorch code, an ONNX model or a diagram.

    Exit status: 0 written, 2 bad input or environment.
    """
    from archsearch.analysis.analyze import analyze
    from archsearch.analysis.constraints import load_constraints
    from archsearch.common.parse import source_name
    from archsearch.errors import named_as
    from archsearch.spec.load import load_spec

    if out is not None and _is_standard_output(out):
        out = None
    _check_options(to, out, checkpoint, constraints)
    limits = load_constraints(constraints) if constraints is not None else None
    with named_as(source_name(spec)):
        analysis = analyze(load_spec(spec))
    if to == "onnx":
        _write(_onnx(analysis, checkpoint), out)
    else:
        _write(_text(analysis, to, limits).encode(), out)


def _is_standard_output(path: Path) -> bool:
    """Whether `path` leads there, as /dev/stdout does: a redirection is no file to replace."""
    try:
        return os.path.samestat(path.stat(), os.fstat(STDOUT))
    except OSError:
        return False


def _check_options(
    to: Target, out: Path | None, checkpoint: Path | None, constraints: str | None
) -> None:
    wrong = []
    if out is not None and out.is_dir():
        wrong.append(f"--out {out} is a folder: give a file in it")
    if to == "onnx":
        if out is None and sys.stdout.isatty():
            wrong.append("an ONNX model is no text for a terminal: give --out FILE, or redirect")
        if missing := [name for name in ONNX_NEEDS if not find_spec(name)]:
            names = " and ".join(missing)
            wrong.append(f"--to onnx needs {names}: pip install 'archsearch[onnx]'")
    elif checkpoint is not None:
        wrong.append(f"--checkpoint goes with --to onnx, not {to}: drop one of them")
    if constraints is not None and to != "svg":
        wrong.append(f"--constraints goes with --to svg, not {to}: drop one of them")
    if wrong:
        raise ArchsearchError("; ".join(wrong))


def _onnx(analysis: Analysis, checkpoint: Path | None) -> bytes:
    from archsearch.convert.to_onnx import SEED, onnx_model

    if checkpoint is None:
        model = onnx_model(analysis)
        note(f"fresh, untrained weights (seed {SEED}); --checkpoint FILE for trained ones")
        return model
    from archsearch.training.checkpoint import load_weights

    return onnx_model(analysis, lambda net: load_weights(net, checkpoint, analysis.spec_hash, note))


def _text(analysis: Analysis, to: Target, limits: Constraints | None) -> str:
    from archsearch.convert.diagram import mermaid
    from archsearch.convert.to_pytorch import pytorch_source
    from archsearch.convert.to_svg import svg

    if to == "pytorch":
        return pytorch_source(analysis)
    if to == "mermaid":
        return mermaid(analysis)
    return svg(analysis, limits)


def _write(content: bytes, out: Path | None) -> None:
    from archsearch.common.atomic_files import write_output

    if out is None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    write_output(out, content)
