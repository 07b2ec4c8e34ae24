"""Load a spec from a file, standard input or a dict."""

from __future__ import annotations

import os
import re
from pathlib import Path

from archsearch.common.parse import Given, from_given
from archsearch.errors import ArchsearchError, one_line
from archsearch.spec.models import Spec

_IMPORT = "archsearch import FILE.py:CLASS > spec.json"
_OTHER_KINDS = {
    ".ipynb": f"is a notebook, not a spec; copy the module into a file, then run {_IMPORT}",
    **dict.fromkeys(
        (".pt", ".pth", ".ckpt", ".safetensors"),
        f"holds weights, not a network; for the spec of their module run {_IMPORT}",
    ),
    ".onnx": f"is an ONNX model, not a spec; for the spec of its PyTorch module run {_IMPORT}",
    ".toml": "is a study, not a spec; run archsearch search with it",
}
"""What a user may take for a spec, by the ending of its name."""


def refuse_other_kinds(path: str | os.PathLike[str]) -> None:
    """Refuse a path whose name says that it is no spec, and say what to do with it.

    Raises:
        ArchsearchError: it is no spec.
    """
    name = os.fspath(path)
    if code := re.fullmatch(r"(.+\.py)(:\w+)?", name, re.DOTALL):
        target = one_line(f"{code[1]}{code[2] or ':CLASS'}")
        raise ArchsearchError(
            f"{name}: is Python code, not a spec; run archsearch import {target} > spec.json"
        )
    if hint := _OTHER_KINDS.get(Path(name).suffix.lower()):
        raise ArchsearchError(f"{name}: {hint}")


def load_spec(spec: Spec | Given) -> Spec:
    """Read a spec from a JSON file or a dict.

    Args:
        spec: a path ("-" for standard input), a dict, or a `Spec`, which is returned unchanged.

    Raises:
        InputError: the spec is invalid; the error lists all problems.
        ArchsearchError: the file cannot be read.

    Example:
        >>> import archsearch as asr
        >>> spec = asr.load_spec("studies/seeds/eva8-session6/spec.json")
        >>> spec.name, [block.name for block in spec.blocks]
        ('eva8-session6', ['conv1', 'conv2', 'conv3', 'conv4'])
    """
    if isinstance(spec, str | os.PathLike):
        refuse_other_kinds(spec)
    return from_given(Spec, spec)
