"""A network as plain PyTorch code: a file to read, to keep and to train anywhere."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count

from archsearch.analysis.analyze import Analysis
from archsearch.convert.pytorch_code import HELPERS, LOADER, code_of, symmetric
from archsearch.errors import one_line
from archsearch.spec import ops, params_and_macs
from archsearch.spec.formatting import axes_text, receptive_field_step, shape_text
from archsearch.spec.network import FeatureMap, Join, Node, Trunk, walk

INDENT = "    "
MAX_IDENTIFIER = 40

_ATTRIBUTES = (
    "T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda "
    "double dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter "
    "get_submodule half ipu load_state_dict modules mtia named_buffers named_children "
    "named_modules named_parameters parameters register_backward_hook register_buffer "
    "register_forward_hook register_forward_pre_hook register_full_backward_hook "
    "register_full_backward_pre_hook register_load_state_dict_post_hook "
    "register_load_state_dict_pre_hook register_module register_parameter "
    "register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state "
    "set_submodule share_memory state_dict to to_empty train training type xpu zero_grad"
)
MODULE_ATTRIBUTES = frozenset(_ATTRIBUTES.split())
"""What a block's attribute would shadow in nn.Module."""


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of code; `figures` (shape, parameters, receptive field) stand in its comment."""

    depth: int
    code: str
    figures: tuple[str, str, str] | None = None

    @property
    def indented(self) -> str:
        return INDENT * self.depth + self.code


def pytorch_source(analysis: Analysis) -> str:
    """A Python file that needs torch alone: `SPEC_HASH`, `Net` and `load_checkpoint`.

    Names from the spec stand in comments and the docstring only, escaped.
    """
    parts = [
        _docstring(analysis),
        "import hashlib\nimport io\nfrom pathlib import Path\n\n"
        "import torch\nfrom torch import Tensor, nn\n",
        f'SPEC_HASH = "{analysis.spec_hash}"\n"""Which network this is."""\n',
        *(HELPERS[name] for name in HELPERS if name in _used(analysis.network.trunk)),
        _net(analysis),
        LOADER,
    ]
    return "\n".join(parts)


def _docstring(analysis: Analysis) -> str:
    image, field = analysis.network.image, axes_text(analysis.receptive_field)
    return f'''"""{inert(analysis.spec.name)}: an image classifier, written out by archsearch.

parameters       {analysis.params:,}
MACs             {analysis.macs:,} multiply-accumulates for one image
receptive field  {field} pixels before global pooling, \
{axes_text(analysis.receptive_field_with_gap)} with it

    net = load_checkpoint("checkpoint.pt")  # from `archsearch train` on this network
    logits = net(images)  # (N, {_commas(image.shape)}) to (N, {analysis.spec.classes})
"""
'''


def inert(name: str) -> str:
    """A name as it can stand in a comment or docstring: on one line, ending neither."""
    return one_line(re.sub(r'(["\\])', r"\\\1", name))


def identifiers(names: Sequence[str]) -> list[str]:
    """An attribute of `Net` for each block's name: valid, ASCII, unique, and free to take."""
    words = ["output"]
    for name in names:
        word = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")[:MAX_IDENTIFIER] or "block"
        if word[0].isdigit():
            word = f"block_{word}"
        if word in MODULE_ATTRIBUTES or keyword.iskeyword(word):
            word = f"{word}_block"
        words.append(word)
    return numbered(words)[1:]


def numbered(names: Iterable[str]) -> list[str]:
    """Names with `_2`, `_3`, ... behind those that are taken by an earlier one."""
    taken: dict[str, None] = {}
    for name in names:
        alternatives = (f"{name}_{number}" for number in count(2))
        taken[next(unique for unique in chain([name], alternatives) if unique not in taken)] = None
    return list(taken)


def _net(analysis: Analysis) -> str:
    network, classes = analysis.network, analysis.spec.classes
    names = [block.name for block in analysis.spec.blocks]
    attributes = [*identifiers(names), "output"]
    titles = [*(f'"{inert(name)}"' for name in names), "The output"]
    sections = []
    before = network.image
    for attribute, title, trunk in zip(attributes, titles, network.sections, strict=True):
        after = trunk[-1].after if trunk else before
        sections += [_section_comment(title, trunk, before, after), *_section(attribute, trunk)]
        before = after
    calls = [f"        x = self.{attribute}(x)" for attribute in attributes]
    return "\n".join([
        "\nclass Net(nn.Module):",
        f'    """Images (N, {_commas(network.image.shape)}) to logits (N, {classes})."""',
        "",
        "    def __init__(self) -> None:",
        "        super().__init__()",
        "        # fmt: off",
        "        # Beside each layer: the shape that it leaves (channels x height x width), its",
        "        # parameters, and the receptive field (RF) in pixels, r + (k - 1) * j, where j is",
        "        # the pixels from one cell to the next.",
        *sections,
        "        # fmt: on",
        "",
        "    def forward(self, x: Tensor) -> Tensor:",
        *calls,
        f"        return {'x' if network.logits.flat else 'x.flatten(1)'}",
        "",
    ])  # fmt: skip


def _section_comment(title: str, trunk: Trunk, before: FeatureMap, after: FeatureMap) -> str:
    params = sum(params_and_macs.params(node.op) for node in walk(trunk))
    shapes = f"{shape_text(before.shape)} -> {shape_text(after.shape)}"
    return f"\n        # {title}: {shapes}, {params:,} parameters"


def _section(attribute: str, trunk: Trunk) -> Iterator[str]:
    """A block's lines, the comments set as a table."""
    lines = list(_sequential(trunk, 2, f"self.{attribute} = ", end=""))
    beside = [(line.indented, *line.figures) for line in lines if line.figures]
    widths = [max(map(len, column)) for column in zip(*beside, strict=True)]
    for line in lines:
        if line.figures is None:
            yield line.indented
            continue
        shape, params, field = line.figures
        code = f"{line.indented:<{widths[0]}}"
        yield f"{code}  # {shape:<{widths[1]}}  {params:>{widths[2]}}  RF {field}"


def _sequential(trunk: Trunk, depth: int, start: str = "", end: str = ",") -> Iterator[_Line]:
    if not trunk:
        yield _Line(depth, f"{start}nn.Identity(){end}")
        return
    yield _Line(depth, f"{start}nn.Sequential(")
    for node in trunk:
        yield from _join(node, depth + 1) if isinstance(node, Join) else _layer(node, depth + 1)
    yield _Line(depth, f"){end}")


def _join(join: Join, depth: int) -> Iterator[_Line]:
    residual = join.role == "residual"
    opening, closing = ("(", ")") if residual else ("([", "])")
    yield _Line(depth, f"{_helper(join)}{opening}")
    for i, branch in enumerate(join.branches):
        yield from _sequential(branch, depth + 1, "shortcut=" if residual and i else "")
    figures = (shape_text(join.after.shape), "0", _unchanged(join.after))
    yield _Line(depth, f"{closing},", figures)


def _unchanged(at: FeatureMap) -> str:
    """The receptive field as it is, no step."""
    return receptive_field_step(None, at, at, pools_all=False)


def _helper(join: Join) -> str:
    if join.role == "residual":
        return "Residual"
    return f"{'Split' if join.split else ''}{'Concat' if join.merge == 'concat' else 'Sum'}"


def _used(trunk: Trunk) -> set[str]:
    """Operations of a trunk, and the helper classes that join its branches."""
    used = {type(node.op).__name__ for node in walk(trunk)}
    for join in (node for node in trunk if isinstance(node, Join)):
        used |= {_helper(join)}.union(*map(_used, join.branches))
    return used


def _layer(node: Node, depth: int) -> Iterator[_Line]:
    op, before = node.op, node.before
    if isinstance(op, ops.Conv2d) and not symmetric(op):
        (top, bottom), (left, right) = op.padding
        height, width = before.height.size + top + bottom, before.width.size + left + right
        figures = (shape_text((before.channels, height, width)), "0", _unchanged(before))
        yield _Line(depth, f"nn.ZeroPad2d(({left}, {right}, {top}, {bottom})),", figures)
    if isinstance(op, ops.Linear) and not before.flat:
        yield _Line(depth, "nn.Flatten(),", (f"{op.in_features}", "0", _unchanged(before)))
    window = op if isinstance(op, ops.Conv2d | ops.Pool2d) else None
    pools_all = isinstance(op, ops.GlobalAvgPool)
    step = receptive_field_step(window, before, node.after, pools_all=pools_all)
    figures = (shape_text(node.after.shape), f"{params_and_macs.params(op):,}", step)
    yield _Line(depth, f"{code_of(op)},", figures)


def _commas(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
