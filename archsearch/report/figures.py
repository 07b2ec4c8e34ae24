"""A study's facts as charts; pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

from archsearch.common.interval import wilson
from archsearch.leaderboard.entry import Entry
from archsearch.report import charts
from archsearch.report.charts import Chart, Figure, axis, layout, limit_line, percent, plain
from archsearch.report.facts import Facts, Finalist
from archsearch.report.phrases import and_list, mark, plural, share, shares_between
from archsearch.study.objective import pareto_front
from archsearch.training.datasets import DATASETS
from archsearch.training.records import Epoch

MAX_POINTS = 20_000
"""Of all curves of a chart; more are thinned evenly."""

Cost = Literal["params", "macs"]


def trade_off(facts: Facts, cost: Cost) -> Chart:
    """Accuracy against what it costs: hold-out, finalists' test, and what others have published."""
    per = 1 if cost == "params" else 1e6
    trained = [row for row in facts.of("trained") if row.val_acc is not None]
    costs = [(-(row.val_acc or 0.0), getattr(row, cost)) for row in trained]
    front = [row for row, on in zip(trained, pareto_front(costs), strict=True) if on]
    front.sort(key=lambda row: (getattr(row, cost), row.val_acc))
    traces = [
        _public(facts, cost),
        {
            **_points(trained, cost, per, "val_acc"),
            "name": "search: hold-out",
            "marker": {"color": charts.BLUE, "size": 8, "opacity": 0.75},
        },
        {
            **_points(front, cost, per, "val_acc"),
            "name": "Pareto front",
            "mode": "lines+markers",
            "line": {"color": charts.BLUE, "width": 1.5, "shape": "hv"},
            "marker": {
                "color": charts.BLUE,
                "size": 10,
                "line": {"color": "var(--panel)", "width": 1.5},
            },
        },
        _tested(facts, cost, per),
    ]
    x = (
        axis("parameters", tickformat=",d")
        if cost == "params"
        else axis("million MACs", type="log")
    )
    if cost == "macs":
        x |= {"tickvals": [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000]}
    drawn = layout(x, axis("accuracy", ticksuffix="%"), height=440)
    limit = getattr(facts.study.constraints, f"max_{cost}")
    if limit:
        shape, note = limit_line("x", limit / per, "limit ")
        if cost == "macs":
            note["x"] = math.log10(limit / per)  # Plotly's annotations want the logarithm here
        drawn |= {"shapes": [shape], "annotations": [note]}
    unit = "parameters" if cost == "params" else "multiply-accumulates"
    figure = {"data": [trace for trace in traces if trace["x"]], "layout": drawn}
    reading = _front_reading(front, cost)
    if facts.public:
        reading += (
            f" Grey: what {len(facts.public)} public solutions report, of their best epoch on the "
            "test images."
        )
    return Chart(f"against-{cost}", f"Accuracy against {unit}", figure, reading)


def _front_reading(front: Sequence[Entry], cost: Cost) -> str:
    if not front:
        return "No network was trained to its end yet."
    least, most = front[0], front[-1]
    what = "parameters" if cost == "params" else "MACs"
    one = len(front) == 1
    count = f"{plural(len(front), 'network')} of the search {'is' if one else 'are'}"
    ends = f"{share(least.val_acc)} with {getattr(least, cost):,} {what}"
    if not one:
        ends = f"from {ends} to {share(most.val_acc)} with {getattr(most, cost):,}"
    return f"{count} beaten by no other in hold-out accuracy and {what} at once: {ends}."


def _points(rows: Sequence[Entry], cost: Cost, per: float, accuracy: str) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [getattr(row, cost) / per for row in rows],
        "y": [percent(getattr(row, accuracy)) for row in rows],
        "text": [_hover(row) for row in rows],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _hover(row: Entry) -> str:
    tested = f"<br>test {share(row.test_acc)}" if row.test_acc is not None else ""
    held = share(row.val_acc) if row.val_acc is not None else "none"
    return (
        f"<b>{mark(row)}</b>, trial {row.trial}<br>hold-out {held}{tested}"
        f"<br>{row.params:,} parameters<br>{row.macs / 1e6:.1f} million MACs"
    )


def _tested(facts: Facts, cost: Cost, per: float) -> Figure:
    rows = facts.tested
    count = DATASETS[facts.study.dataset].test
    ends = [wilson(round((row.test_acc or 0.0) * count), count) for row in rows]
    means = [row.test_acc or 0.0 for row in rows]
    return {
        **_points(rows, cost, per, "test_acc"),
        "name": "finalists: test",
        "marker": {"color": charts.ORANGE, "size": 11, "symbol": "diamond"},
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [percent(end.high - mean) for end, mean in zip(ends, means, strict=True)],
            "arrayminus": [percent(mean - end.low) for end, mean in zip(ends, means, strict=True)],
            "color": charts.ORANGE,
            "thickness": 1.5,
            "width": 4,
        },
    }


def _public(facts: Facts, cost: Cost) -> Figure:
    rows = [r for r in facts.public if cost == "params" or r.macs_million is not None]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "public: test, best epoch",
        "x": [row.params if cost == "params" else row.macs_million for row in rows],
        "y": [row.best_test_acc_percent for row in rows],
        "text": [plain(row.solution) for row in rows],
        "hovertemplate": "%{text}<br>%{y}%<extra></extra>",
        "marker": {"color": charts.FAINT, "size": 7},
    }


def search_curves(facts: Facts) -> Chart | None:
    """Hold-out accuracy by epoch of every trial; None where no history is there."""
    if not facts.curves:
        return None
    named = {f.row.spec_hash for f in facts.finalists}
    step = math.ceil(sum(map(len, facts.curves.values())) / MAX_POINTS)
    traces = [
        {
            **_curves(facts, facts.of("pruned"), step, "stopped early", charts.FAINT),
            "mode": "lines+markers",  # one epoch makes no line
            "marker": {"size": 5},
        },
        _curves(
            facts,
            [row for row in facts.of("trained") if row.spec_hash not in named],
            step,
            "trained to the end",
            charts.PALE,
        ),
    ]
    for finalist, (color, symbol) in _series(facts.finalists):
        trace = _curves(facts, [finalist.row], step, mark(finalist.row), color)
        traces.append({**trace, "mode": "lines+markers", "marker": {"symbol": symbol, "size": 7}})
    x = axis("epoch of the search", dtick=1 if facts.study.recipe.epochs <= 12 else None)
    drawn = layout(x, axis("hold-out accuracy", ticksuffix="%"))
    firsts = sorted(c[0].val_acc for c in facts.curves.values() if c[0].val_acc is not None)
    reading = (
        f"After one epoch the networks reach {shares_between(firsts[0], firsts[-1])}; "
        f"{plural(len(facts.of('pruned')), 'network')} stopped early, having fallen behind."
    )
    figure = {"data": [trace for trace in traces if trace["x"]], "layout": drawn}
    return Chart("search-curves", "Learning curves of the search", figure, reading)


def _curves(facts: Facts, rows: Iterable[Entry], step: int, name: str, color: str) -> Figure:
    """Curves of one look as one trace, with gaps between them."""
    x: list[int | None] = []
    y: list[float | None] = []
    texts: list[str] = []
    for row in rows:
        scored = facts.curves.get(row.spec_hash, ())
        if not scored:
            continue
        kept = scored[::step] + (scored[-1:] if (len(scored) - 1) % step else ())
        for epoch in kept:
            x.append(epoch.epoch)
            y.append(percent(epoch.val_acc or 0.0))
            texts.append(f"{mark(row)}, trial {row.trial}")
        x.append(None)
        y.append(None)
        texts.append("")
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": x,
        "y": y,
        "text": texts,
        "line": {"color": color, "width": 2 if color not in (charts.FAINT, charts.PALE) else 1.2},
        "hovertemplate": "%{text}<br>epoch %{x}: %{y:.2f}%<extra></extra>",
    }


def final_curves(facts: Facts) -> Chart | None:
    """Training accuracy of the finalists, and where the test ended; None where none has a run."""
    traces: list[Figure] = []
    readings = []
    for finalist, (color, symbol) in _series(facts.finalists):
        history = next((f.history for f in finalist.finals if isinstance(f.history, tuple)), ())
        if not history:
            continue
        traces.append(_training(history, mark(finalist.row), color))
        if finalist.row.test_acc is not None:
            tested = percent(finalist.row.test_acc)
            traces.append({
                "type": "scatter",
                "mode": "markers",
                "x": [history[-1].epoch],
                "y": [tested],
                "marker": {"color": color, "symbol": f"{symbol}-open", "size": 10},
                "showlegend": False,
                "hovertemplate": f"{mark(finalist.row)}<br>test %{{y:.2f}}%<extra></extra>",
            })  # fmt: skip
            readings.append(f"{mark(finalist.row)} at {share(finalist.row.test_acc)}")
    if not traces:
        return None
    drawn = layout(axis("epoch of the retraining"), axis("accuracy", ticksuffix="%"))
    reading = "Lines: accuracy on augmented training images, all of them."
    if readings:
        reading += f" Marks: the one look at the test images: {and_list(readings)}."
    return Chart(
        "final-curves",
        "Retraining of the finalists",
        {"data": traces, "layout": drawn},
        reading,
    )


def _training(history: Sequence[Epoch], name: str, color: str) -> Figure:
    step = math.ceil(len(history) / MAX_POINTS * 10)
    kept = history[::step]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [epoch.epoch for epoch in kept],
        "y": [percent(epoch.train_acc) for epoch in kept],
        "line": {"color": color, "width": 2},
        "hovertemplate": f"{name}<br>epoch %{{x}}: training %{{y:.2f}}%<extra></extra>",
    }


def _series(finalists: Sequence[Finalist]) -> Iterable[tuple[Finalist, tuple[str, str]]]:
    return ((f, charts.SERIES[i % len(charts.SERIES)]) for i, f in enumerate(finalists))
