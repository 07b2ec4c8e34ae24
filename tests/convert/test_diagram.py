"""`archsearch export --to mermaid|svg`: nothing lost, nothing overlapping, no name that acts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings

from archsearch.analysis.analyze import analyze
from archsearch.analysis.constraints import Constraints
from archsearch.analysis.layer_table import Group, groups_of
from archsearch.convert.diagram import boxes, mermaid, sections
from archsearch.convert.to_svg import svg
from archsearch.spec import ops
from archsearch.spec.formatting import axes_text, shape_text
from archsearch.spec.models import Spec
from archsearch.spec.network import Join, Network, Trunk
from tests.convert.test_to_pytorch import EVERYTHING, HOSTILE, NAMES, named
from tests.strategies import specs

SVG = "{http://www.w3.org/2000/svg}"
TEXT = r'"(?:[^\W_]|[ .,-]|#\d+;|<br/>)*"'
STATEMENT = re.compile(
    rf"flowchart TB|(\w+)(?:\(\[|\[){TEXT}(?:\]\)|\])|subgraph block\d+ \[{TEXT}\]|end"
    rf"|(\w+) -->(?:\|{TEXT}\|)? (\w+)"
)
WIDTH = {"name": 11.0}
"""Of one character, in pixels; 7.25 where the style says nothing."""

Rect = tuple[float, float, float, float]


def drawn(spec: Spec) -> ElementTree.Element:
    """The picture, with the default limits."""
    return ElementTree.fromstring(svg(analyze(spec), Constraints()))  # noqa: S314 # our own


def rects(root: ElementTree.Element, style: str) -> list[Rect]:
    """(left, top, right, bottom)."""
    found = []
    for rect in root.iter(f"{SVG}rect"):
        if rect.get("class") == style:
            x, y, w, h = (float(rect.get(name, "0")) for name in ("x", "y", "width", "height"))
            found.append((x, y, x + w, y + h))
    return found


def inside(inner: Rect, outer: Rect) -> bool:
    """Whether a rectangle lies in another."""
    return (
        outer[0] <= inner[0] and outer[1] <= inner[1]
        and inner[2] <= outer[2] and inner[3] <= outer[3]
    )  # fmt: skip


def layers(network: Network) -> int:
    """Boxes that a diagram must have at least: what moves a window or holds most weights."""
    kinds = (ops.Conv2d, ops.Pool2d, ops.GlobalAvgPool, ops.Linear, ops.SqueezeExcite)
    return sum(isinstance(node.op, kinds) for node in network.nodes())


def told(text: str) -> int:
    """The parameters that layers tell, added up."""
    return sum(int(n.replace(",", "")) for n in re.findall(r"([\d,]+) params", text))


def all_groups(trunk: Trunk) -> Iterator[Group]:
    """Branches' groups in order, then their join's."""
    for group in groups_of(trunk):
        if isinstance(group.first, Join):
            for branch in group.first.branches:
                yield from all_groups(branch)
        yield group


@settings(max_examples=150)
@given(spec=specs())
def test_groups_hold_every_operation_once_and_a_layer_each(spec: Spec) -> None:
    network = analyze(spec).network
    groups = list(all_groups(network.trunk))
    nodes = [node for group in groups for node in group.nodes]
    assert list(map(id, nodes)) == list(map(id, network.nodes()))
    assert sum(group.params for group in groups) == analyze(spec).params
    assert sum(group.macs for group in groups) == analyze(spec).macs
    for group in groups:
        follows = (ops.BatchNorm, ops.GroupNorm, ops.Activation, ops.Dropout)
        assert all(isinstance(node.op, follows) for node in group.rest)
        assert {node.place for node in group.rest} <= {group.first.place}
        assert {node.after for node in group.rest} <= {group.first.after}


@settings(max_examples=150)
@given(spec=specs())
def test_the_table_has_a_row_for_each_box_of_the_diagram(spec: Spec) -> None:
    analysis = analyze(spec)
    drawn_boxes = [
        (box.shape, box.rf, box.params, box.macs)
        for section in sections(analysis.network)
        for box in boxes(section.flow)
    ]
    assert drawn_boxes == [
        (shape_text(row.after.shape), axes_text(row.after.rf), row.params, row.macs)
        for row in analysis.rows
    ]


def test_what_follows_a_sum_in_its_layer_stays_with_it() -> None:
    groups = all_groups(analyze(Spec.model_validate(EVERYTHING)).network.trunk)
    joins = [group for group in groups if isinstance(group.first, Join)]
    assert [[node.op for node in group.rest] for group in joins if group.rest] == [
        [ops.Activation("gelu")]
    ]
    flowchart = mermaid(analyze(Spec.model_validate(EVERYTHING)))
    assert '(["add<br/>gelu<br/>' in flowchart


@settings(max_examples=150)
@given(spec=specs())
def test_the_pictures_boxes_do_not_overlap_and_hold_their_text(spec: Spec) -> None:
    root = drawn(spec)
    paper, blocks, boxes = (rects(root, style) for style in ("paper", "block", "box"))
    assert len(blocks) == len(spec.blocks) + 1
    assert len(boxes) >= layers(analyze(spec).network)
    for one, other in combinations(boxes, 2):
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert apart
    assert all(any(inside(box, block) for block in blocks) for box in boxes)
    assert all(inside(block, paper[0]) for block in blocks)
    for group in root.iter(f"{SVG}g"):
        (box,) = rects(group, "box")
        assert all(inside(extent(text), box) for text in group.iter(f"{SVG}text"))
    assert all(inside(extent(text), paper[0]) for text in root.iter(f"{SVG}text"))


def extent(text: ElementTree.Element) -> Rect:
    """What a line of text covers."""
    x, y = float(text.get("x", "0")), float(text.get("y", "0"))
    width = len(text.text or "") * WIDTH.get(text.get("class", ""), 7.25)
    left = x - width if text.get("text-anchor") == "end" else x
    return left, y - 10, left + width, y + 3


@settings(max_examples=150)
@given(spec=specs())
def test_both_diagrams_tell_every_parameter(spec: Spec) -> None:
    analysis = analyze(spec)
    root = drawn(spec)
    lines = [text.text or "" for group in root.iter(f"{SVG}g") for text in group.iter(f"{SVG}text")]
    assert told("\n".join(lines)) == analysis.params
    flowchart = mermaid(analysis)
    nodes = [line for line in flowchart.splitlines() if line.lstrip().startswith("layer")]
    assert told("\n".join(line for line in nodes if "-->" not in line)) == analysis.params


@settings(max_examples=150)
@given(spec=specs())
def test_every_path_of_the_flowchart_leads_from_the_image_to_the_logits(spec: Spec) -> None:
    matches = [STATEMENT.fullmatch(line.strip()) for line in mermaid(analyze(spec)).splitlines()]
    assert all(matches)
    nodes = {match[1] for match in matches if match and match[1]}
    edges = [(match[2], match[3]) for match in matches if match and match[2]]
    assert {source for source, _ in edges} == nodes - {"logits"}
    assert {target for _, target in edges} == nodes - {"image"}


@settings(max_examples=150)
@given(names=NAMES)
def test_no_name_becomes_markup(names: list[str]) -> None:
    flowchart = mermaid(analyze(named(*names)))
    assert all(STATEMENT.fullmatch(line.strip()) for line in flowchart.rstrip("\n").split("\n"))
    harmless = [f"b{i}" for i in range(len(names))]
    tags = [[e.tag for e in drawn(named(*some)).iter()] for some in (names, harmless)]
    assert tags[0] == tags[1]


@pytest.mark.parametrize("spec", [named(*HOSTILE), Spec.model_validate(EVERYTHING)])
def test_the_picture_needs_nothing_else_and_runs_nothing(spec: Spec) -> None:
    root = drawn(spec)
    tags = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert tags <= {"svg", "title", "desc", "style", "rect", "text", "polyline", "path", "g"}
    attributes = {name for element in root.iter() for name in element.attrib}
    assert not {name for name in attributes if name.startswith("on") or "href" in name}
    style = root.findtext(f"{SVG}style") or ""
    assert "prefers-color-scheme: dark" in style
    assert "url(" not in style
    assert "@import" not in style
    ids = {element.get("id") for element in root if element.get("id")}
    assert set((root.get("aria-labelledby") or "").split()) == ids
    assert f"{analyze(spec).params:,}" in (root.findtext(f"{SVG}desc") or "")


def test_branches_are_told_apart() -> None:
    flowchart = mermaid(analyze(Spec.model_validate(EVERYTHING)))
    assert '-->|"share 1 of 4"|' in flowchart
    assert '-->|"identity"|' in flowchart
    texts = [text.text for text in drawn(Spec.model_validate(EVERYTHING)).iter(f"{SVG}text")]
    assert "identity" in texts
    assert "channels split in 4" in texts
    assert "conv 4x2, dilation 2x1" in texts
    assert "batch norm, gelu" not in texts  # the activation after a sum is told with the sum
