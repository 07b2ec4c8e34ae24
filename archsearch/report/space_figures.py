"""Charts of the search space: what networks see, which knobs matter, what was rejected."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from archsearch.analysis.analyze import Analysis
from archsearch.report import charts
from archsearch.report.charts import Chart, Figure, axis, bars, layout, limit_line, plain
from archsearch.report.facts import Facts
from archsearch.report.importance import Importance
from archsearch.report.phrases import and_list, mark, plural
from archsearch.report.records import RejectionRow

MAX_BARS = 200
MAX_KNOBS = 15


def fields_along_depth(facts: Facts) -> Chart | None:
    """How the receptive field grows, layer by layer; None where no finalist's spec is there."""
    known = [
        (mark(finalist.row), finalist.analysis, charts.SERIES[i % len(charts.SERIES)])
        for i, finalist in enumerate(facts.finalists)
        if isinstance(finalist.analysis, Analysis)
    ]
    if not known:
        return None
    side = min(known[0][1].network.image.size)
    lines = [limit_line("y", side, f"image, {side} px")]
    if (least := facts.study.constraints.min_receptive_field) is not None:
        lines.append(limit_line("y", least, f"limit, {least} px"))
    drawn = layout(
        axis("layer"),
        axis("receptive field, pixels", rangemode="tozero"),
        shapes=[shape for shape, _ in lines],
        annotations=[note for _, note in lines],
        height=400,
    )
    readings = [f"{name} {_covered(analysis, side)}" for name, analysis, _ in known]
    return Chart(
        "fields",
        "Receptive field along depth",
        {"data": [_field(*one) for one in known], "layout": drawn},
        f"Of the smaller axis; a field wider than the image sees all of it: {and_list(readings)}.",
    )


def _covered(analysis: Analysis, side: int) -> str:
    for number, row in enumerate(analysis.rows, start=1):
        if min(row.after.rf) >= side:
            return f"from layer {number} of {len(analysis.rows)} on"
    return "nowhere"


def _field(name: str, analysis: Analysis, look: tuple[str, str]) -> Figure:
    color, symbol = look
    rows = analysis.rows
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": list(range(1, len(rows) + 1)),
        "y": [min(row.after.rf) for row in rows],
        "text": [f"{plain(row.block)}: {plain(row.op)}" for row in rows],
        "line": {"color": color, "width": 2},
        "marker": {"symbol": symbol, "size": 7},
        "hovertemplate": f"{name}, layer %{{x}}<br>%{{text}}<br>%{{y}} px<extra></extra>",
    }


def knob_shares(found: Importance) -> Chart:
    """How much each knob tells the best tenth from the rest."""
    shown = dict(found.shares[:MAX_KNOBS])
    first = and_list([name for name, _ in found.shares[:3]])
    return Chart(
        "knobs",
        "Which knobs tell the best tenth apart",
        bars(shown, "share of importance", [f"{value:.2f}" for value in shown.values()]),
        f"By PED-ANOVA over the hold-out accuracy of {plural(found.networks, 'network')} that "
        f"were trained to their end; most by {first}. With so few networks this is a hint.",
    )


def rejections_by_rule(rejections: Sequence[RejectionRow]) -> Chart:
    """How often each limit was broken."""
    counts = Counter(rule for row in rejections for rule in row.rules.split()[:20])
    shown = {rule: float(count) for rule, count in counts.most_common(MAX_KNOBS)}
    told = [f"{rule} ({plural(count, 'time')})" for rule, count in counts.most_common(3)]
    reading = "No proposal was rejected."
    if told:
        reading = (
            f"Rejected by arithmetic on the spec: {plural(len(rejections), 'proposal')}, most "
            f"often by {and_list(told)}; one may break several rules."
        )
    return Chart(
        "rejections-by-rule",
        "Rejected before training, by rule",
        bars(shown, "proposals", [f"{count:,.0f}" for count in shown.values()]),
        reading,
    )


def rejections_by_trial(rejections: Sequence[RejectionRow]) -> Chart:
    """How many proposals were rejected before each trial, in the order of the search."""
    last = max((row.trial for row in rejections), default=0)
    width = math.ceil((last + 1) / MAX_BARS)
    counts = Counter(row.trial // width * width for row in rejections)
    trace = {
        "type": "bar",
        "x": sorted(counts),
        "y": [counts[trial] for trial in sorted(counts)],
        "marker": {"color": charts.BLUE},
        "hovertemplate": "trial %{x}: %{y} rejected before it<extra></extra>",
    }
    half = (last + 1) // 2
    early = sum(row.trial < half for row in rejections)
    title = "trial" if width == 1 else f"trial, {width} a bar"
    drawn = layout(axis(title, showgrid=False), axis("proposals rejected"), bargap=0.2, height=300)
    return Chart(
        "rejections-by-trial",
        "Rejected before each trial, over the search",
        {"data": [trace], "layout": drawn},
        f"{early:,} before trial {half:,} and {len(rejections) - early:,} from there on: "
        "the fewer, the better the sampler knows the limits.",
    )
