"""A network as a picture: blocks from top to bottom, branches side by side."""

from __future__ import annotations

import textwrap
import unicodedata
from html import escape

from archsearch.analysis.analyze import Analysis
from archsearch.analysis.constraints import Constraints, active_rules, judge
from archsearch.convert.diagram import Box, Flow, Section, sections
from archsearch.errors import one_line
from archsearch.spec.formatting import axes_text, shape_text

# All lengths are in pixels.
CHARACTER = 7.3
"""Width of one character of the 12 pixel monospaced text, rounded up."""
LINE = 17
ROOM = 9
"""Between a box's edge and its text."""
ARROW = 18
BRANCH_GAP = 18
MARGIN = 24
TITLE_BAR = 30
MIN_WIDTH = 560
IDENTITY_WIDTH = 80
MAX_NAME = 56
"""In characters; a longer name is cut, and whole in the description."""
MAX_FACT = 76
"""In characters; a longer line about the network goes on below."""
INDENT = " " * 17

_STYLE = """
.archsearch text { font: 12px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  fill: #1f2328; white-space: pre }
.archsearch .name { font-size: 18px; font-weight: bold }
.archsearch .strong { font-weight: bold }
.archsearch .dim { fill: #59636e }
.archsearch .good { fill: #116329; font-weight: bold }
.archsearch .bad { fill: #a40e26; font-weight: bold }
.archsearch .paper { fill: #ffffff }
.archsearch .block { fill: #f3f5f7; stroke: #d1d9e0 }
.archsearch .box { fill: #ffffff; stroke: #aeb6bf }
.archsearch .wire { fill: none; stroke: #818b98; stroke-width: 1.5 }
.archsearch .tip { fill: #818b98 }
.archsearch .conv { fill: #0969da } .archsearch .depthwise { fill: #1a7f37 }
.archsearch .pool { fill: #bf5b00 } .archsearch .linear { fill: #8250df }
.archsearch .merge { fill: #59636e } .archsearch .other { fill: #aeb6bf }
@media (prefers-color-scheme: dark) {
.archsearch text { fill: #f0f6fc }
.archsearch .dim { fill: #a3abb5 }
.archsearch .good { fill: #56d364 }
.archsearch .bad { fill: #ff7b72 }
.archsearch .paper { fill: #0d1117 }
.archsearch .block { fill: #161c24; stroke: #3d444d }
.archsearch .box { fill: #0d1117; stroke: #656c76 }
.archsearch .conv { fill: #4493f8 } .archsearch .depthwise { fill: #3fb950 }
.archsearch .pool { fill: #e09b3d } .archsearch .linear { fill: #ab7df8 }
.archsearch .merge { fill: #a3abb5 } .archsearch .other { fill: #656c76 }
}
"""


def svg(analysis: Analysis, constraints: Constraints | None) -> str:
    """The picture as an SVG document that needs nothing else; all text is escaped.

    Limits, and the verdict on the network, are told of if `constraints` are given.
    """
    drawn = list(sections(analysis.network))
    facts = [*_facts(analysis), *(_verdict(analysis, constraints) if constraints else ())]
    head = [
        ("name", _cut(one_line(analysis.spec.name), MAX_NAME * 2 // 3)),
        *(
            (style, line)
            for style, fact in facts
            for line in textwrap.wrap(fact, MAX_FACT, subsequent_indent=INDENT)
        ),
    ]
    width = max(
        MIN_WIDTH,
        *(_text_width(text) for _, text in head),
        *(_flow_width(section.flow) + 2 * MARGIN for section in drawn),
    )
    picture = _Picture()
    y: float = MARGIN
    for style, text in head:
        y += LINE
        picture.text(MARGIN, y, text, style)
        y += 6 if style == "name" else 0
    y += LINE
    centre = MARGIN + width / 2
    for i, section in enumerate(drawn):
        if i:
            y = picture.arrow(centre, y)
        y = _draw_section(picture, section, centre, y, width)
    about = _description([fact for _, fact in facts], drawn)
    return _document(analysis, about, picture.parts, width + 2 * MARGIN, y + MARGIN)


def _document(analysis: Analysis, about: str, parts: list[str], width: float, height: float) -> str:
    mark = analysis.spec_hash[:12]
    size = f'width="{width:.9g}" height="{height:.9g}" viewBox="0 0 {width:.9g} {height:.9g}"'
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" class="archsearch" {size} role="img" '
        f'aria-labelledby="title-{mark} desc-{mark}">',
        f'<title id="title-{mark}">{escape(one_line(analysis.spec.name))}</title>',
        f'<desc id="desc-{mark}">{escape(about)}</desc>',
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" width="{width:.9g}" height="{height:.9g}"/>',
        *parts,
        "</svg>",
        "",
    ])  # fmt: skip


def _description(facts: list[str], drawn: list[Section]) -> str:
    """The picture for who cannot see it."""
    blocks = [
        f"{section.name}: {shape_text(section.before.shape)} to {shape_text(section.after.shape)}, "
        f"{section.params:,} parameters"
        for section in drawn
    ]
    return f"{'. '.join([*facts, *blocks])}."


def _facts(analysis: Analysis) -> list[tuple[str, str]]:
    """(style, text) of the lines below the name."""
    field, with_gap = map(axes_text, (analysis.receptive_field, analysis.receptive_field_with_gap))
    return [
        ("dim", f"spec_hash        {analysis.spec_hash[:12]}"),
        ("", f"parameters       {analysis.params:,}"),
        ("", f"MACs, one image  {analysis.macs:,}"),
        ("", f"receptive field  {field} before global pooling, {with_gap} with it"),
        ("", f"image            {shape_text(analysis.network.image.shape)}"),
    ]


def _verdict(analysis: Analysis, constraints: Constraints) -> list[tuple[str, str]]:
    """(style, text) of the limits that are on, and what they make of the network."""
    limits = [
        name if limit is True else f"{name} {limit:,}"
        for name, limit, _ in active_rules(constraints)
    ]
    told = ("dim", f"limits           {', '.join(limits) or 'none'}")
    broken = judge(analysis, constraints).violations
    verdict = [("bad", f"rejected: {violation.message}") for violation in broken]
    return [told, *(verdict or [("good", "accepted")])]


class _Picture:
    """Elements of an SVG document, in the order in which they are painted."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def text(self, x: float, y: float, text: str, style: str = "", anchor: str = "start") -> None:
        """One line of text, its baseline at `y`."""
        place = f'x="{x:.9g}" y="{y:.9g}" text-anchor="{anchor}"'
        self.parts.append(f'<text {place} class="{style}">{escape(text)}</text>')

    def rect(self, x: float, y: float, width: float, height: float, style: str, r: int) -> None:
        """A rectangle with corners of radius `r`."""
        self.parts.append(
            f'<rect x="{x:.9g}" y="{y:.9g}" width="{width:.9g}" height="{height:.9g}" rx="{r}" '
            f'class="{style}"/>'
        )

    def wire(self, *points: tuple[float, float]) -> None:
        """A line through `points`."""
        path = " ".join(f"{x:.9g},{y:.9g}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" class="wire"/>')

    def arrow(self, x: float, y: float) -> float:
        """An arrow down from `y`; where it ends."""
        self.wire((x, y), (x, y + ARROW - 4))
        self.parts.append(f'<path d="M {x:.9g} {y + ARROW:.9g} l -4 -7 h 8 z" class="tip"/>')
        return y + ARROW


def _draw_section(
    picture: _Picture, section: Section, centre: float, y: float, width: float
) -> float:
    """A block's card; where it ends."""
    left = centre - width / 2
    height = TITLE_BAR + _flow_height(section.flow) + MARGIN
    picture.rect(left, y, width, height, "block", 8)
    picture.text(left + ROOM + 3, y + 20, _cut(section.name, MAX_NAME), "strong")
    picture.text(left + width - ROOM - 3, y + 20, f"{section.params:,} params", "dim", "end")
    _draw_flow(picture, section.flow, centre, y + TITLE_BAR)
    return y + height


def _draw_flow(picture: _Picture, flow: Flow, centre: float, y: float) -> float:
    """Its boxes one below the other, each at the end of an arrow; where the last one ends."""
    width = _boxes_width(flow)
    for box in flow:
        if box.branches:
            y = _draw_branches(picture, box, centre, y)
        y = picture.arrow(centre, y)
        _draw_box(picture, box, centre - width / 2, y, width)
        y += _box_height(box)
    return y


def _draw_branches(picture: _Picture, fork: Box, centre: float, y: float) -> float:
    """The branches between the wires that join them; where the lower wire is."""
    top, bottom = y + _fork_room(fork), y + _branches_height(fork)
    widths = [_branch_width(branch) for branch in fork.branches]
    x = centre - (sum(widths) + BRANCH_GAP * (len(widths) - 1)) / 2
    if fork.split:
        picture.text(centre + 6, top - 6, _split_text(fork), "dim")
    columns = []
    for branch, width in zip(fork.branches, widths, strict=True):
        column = x + width / 2
        end = _draw_flow(picture, branch, column, top)
        picture.wire((column, end), (column, bottom))
        if not branch:
            picture.text(column + 6, top + ARROW + 8, "identity", "dim")
        columns.append(column)
        x += width + BRANCH_GAP
    picture.wire((centre, y), (centre, top))
    for level in (top, bottom):
        picture.wire((min(centre, *columns), level), (max(centre, *columns), level))
    return bottom


def _draw_box(picture: _Picture, box: Box, x: float, y: float, width: float) -> None:
    about = f"receptive field {box.step}; {box.macs:,} MACs"
    picture.parts.append(f"<g><title>{escape(about)}</title>")
    picture.rect(x, y, width, _box_height(box), "box", 4)
    picture.rect(x, y, 5, _box_height(box), box.kind, 2)
    for i, (style, text) in enumerate(_box_lines(box)):
        picture.text(x + 5 + ROOM, y + ROOM + 9 + i * LINE, text, style)
    picture.parts.append("</g>")


def _box_lines(box: Box) -> list[tuple[str, str]]:
    """(style, text)."""
    figures = f"{box.shape}  RF {box.rf}  {box.params:,} params"
    extras = [("dim", box.extras)] if box.extras else []
    return [("strong", box.title), *extras, ("", figures)]


def _box_height(box: Box) -> float:
    return len(_box_lines(box)) * LINE + 2 * ROOM - 5


def _boxes_width(flow: Flow) -> float:
    """Of a flow's own boxes, all alike; its branches may be wider."""
    texts = [text for box in flow for _, text in _box_lines(box)]
    return max(map(_text_width, texts), default=0) + 5 + 2 * ROOM


def _flow_width(flow: Flow) -> float:
    return max([_boxes_width(flow), *(_fork_width(box) for box in flow if box.branches)])


def _fork_width(fork: Box) -> float:
    columns = sum(map(_branch_width, fork.branches)) + BRANCH_GAP * (len(fork.branches) - 1)
    return max(columns, 2 * _text_width(_split_text(fork)) if fork.split else 0)


def _branch_width(branch: Flow) -> float:
    # The line down the middle has its label on the right, so both sides are as wide as that.
    return _flow_width(branch) if branch else 2 * IDENTITY_WIDTH


def _split_text(fork: Box) -> str:
    return f"channels split in {len(fork.branches)}"


def _flow_height(flow: Flow) -> float:
    boxes = sum(ARROW + _box_height(box) for box in flow)
    return boxes + sum(_branches_height(box) for box in flow if box.branches)


def _branches_height(fork: Box) -> float:
    """From where the wire comes in to the wire that the branches end at."""
    tallest = max(*map(_flow_height, fork.branches), 2 * LINE)
    return _fork_room(fork) + tallest + ARROW / 2


def _fork_room(fork: Box) -> float:
    """From where the wire comes in to the one that it forks at."""
    return ARROW / 2 + (LINE if fork.split else 0)


def _text_width(text: str) -> float:
    return CHARACTER * sum(map(_columns, text))


def _columns(c: str) -> int:
    return 2 if unicodedata.east_asian_width(c) in "WF" else 1


def _cut(name: str, columns: int) -> str:
    """A name that takes at most so many columns."""
    total = 0
    for i, c in enumerate(name):
        total += _columns(c)
        if total > columns:
            return f"{name[: max(0, i - 1)]}…"
    return name
