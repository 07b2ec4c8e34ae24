"""What the charts of a report are made of: a title, a drawing for Plotly, and its main reading."""

from __future__ import annotations

from html import escape
from typing import Any, NamedTuple

from archsearch.errors import one_line

Figure = dict[str, Any]
"""`data` and `layout`, as Plotly's JSON; a colour `var(--name)` is one of the page's own."""

INK, DIM, GRID, PANEL = "var(--ink)", "var(--dim)", "var(--grid)", "var(--panel)"
BLUE, ORANGE, GREEN, PURPLE = "var(--blue)", "var(--orange)", "var(--green)", "var(--purple)"
FAINT, PALE = "var(--faint)", "var(--pale)"
SERIES = ((BLUE, "circle"), (ORANGE, "square"), (GREEN, "diamond"), (PURPLE, "triangle-up"))
"""Of finalists, in their order: told apart by colour and by shape."""

MAX_LABEL = 60
"""Characters of a label."""


class Chart(NamedTuple):
    """A chart.

    Attributes:
        name: its id in the page.
        reading: the main reading, for who cannot see it too.
    """

    name: str
    title: str
    figure: Figure
    reading: str


def plain(text: str) -> str:
    """Text for Plotly, which reads a few tags and entities in what it draws; cut where long."""
    text = one_line(text)
    return escape(text if len(text) <= MAX_LABEL else f"{text[:MAX_LABEL]}...", quote=False)


def percent(share: float) -> float:
    """A share in percent, as precise as it is drawn."""
    return round(100 * share, 3)


def axis(title: str, **changes: Any) -> Figure:
    """An axis with a faint grid and no line."""
    return {
        "title": {"text": title, "standoff": 8},
        "gridcolor": GRID,
        "zeroline": False,
        "automargin": True,
        "tickcolor": GRID,
        **changes,
    }


def layout(x: Figure, y: Figure, **changes: Any) -> Figure:
    """What all charts share."""
    return {
        "xaxis": x,
        "yaxis": y,
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": DIM},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
        "height": 360,
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": PANEL,
            "bordercolor": GRID,
            "font": {"color": INK, "size": 12},
            "align": "left",
        },
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        **changes,
    }


def limit_line(direction: str, at: float, text: str) -> tuple[Figure, Figure]:
    """A dashed line across the plot, and what stands at its end; `direction` is x or y."""
    other = "y" if direction == "x" else "x"
    shape = {
        "type": "line",
        f"{direction}0": at,
        f"{direction}1": at,
        f"{other}0": 0,
        f"{other}1": 1,
        f"{other}ref": "paper",
        "line": {"color": DIM, "width": 1, "dash": "dot"},
    }
    note = {
        "text": text,
        direction: at,
        other: 1,
        f"{other}ref": "paper",
        "showarrow": False,
        "xanchor": "right",
        "yanchor": "top" if direction == "x" else "bottom",
        "font": {"size": 11, "color": DIM},
    }
    return shape, note


def bars(values: dict[str, float], title: str, texts: list[str]) -> Figure:
    """Horizontal bars, the first on top."""
    names = [plain(name) for name in values]
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": list(values.values()),
        "y": names,
        "text": texts,
        "textposition": "outside",
        "cliponaxis": False,
        "marker": {"color": BLUE},
        "hovertemplate": "%{y}: %{text}<extra></extra>",
    }
    top = max(values.values(), default=1.0) or 1.0
    y = axis("", autorange="reversed", type="category", showgrid=False)
    drawn = layout(axis(title, range=[0, 1.15 * top]), y, height=90 + 26 * len(names), bargap=0.35)
    return {"data": [trace], "layout": drawn}
