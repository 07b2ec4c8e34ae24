"""A report as one HTML file that needs nothing else and asks for nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from string import Template

from plotly.offline import get_plotlyjs, get_plotlyjs_version

from archsearch.common.version import __version__
from archsearch.errors import one_line
from archsearch.report import figures, space_figures
from archsearch.report.charts import Chart
from archsearch.report.components import absent, figure, leaderboard
from archsearch.report.facts import Absent, Facts
from archsearch.report.finalist import network
from archsearch.report.importance import importance
from archsearch.report.markup import Html, element, join_html, script_json
from archsearch.report.phrases import made_on
from archsearch.report.summary import sentences, tiles

_TITLES = {
    "summary": "Summary",
    "accuracy": "Accuracy and cost",
    "learning": "Learning",
    "fields": "Receptive field",
    "knobs": "Knobs",
    "rejections": "Rejections",
    "leaderboard": "Leaderboard",
    "finalists": "Finalists",
}


def html(facts: Facts) -> str:
    """The page."""
    parts = _parts(facts)
    bodies = {
        "summary": _summary(facts),
        **{name: _drawn(found) for name, found in parts.items()},
        "leaderboard": leaderboard(facts),
        "finalists": _finalists(facts),
    }
    sections = [
        element("section", element("h2", title), bodies[name], id=name)
        for name, title in _TITLES.items()
    ]
    charts = [part for found in parts.values() for part in found if isinstance(part, Chart)]
    return _document(facts, join_html(sections), charts)


def _parts(facts: Facts) -> Mapping[str, Sequence[Chart | Html]]:
    """The charts by section, or why they are not there."""
    knobs, rejections = importance(facts), facts.rejections
    nobody = Absent("no file to draw it from is there; the search writes them in trials/.")
    return {
        "accuracy": (figures.trade_off(facts, "params"), figures.trade_off(facts, "macs")),
        "learning": (
            figures.search_curves(facts) or absent("Learning curves of the search", nobody),
            figures.final_curves(facts) or absent("Retraining of the finalists", nobody),
        ),
        "fields": (
            space_figures.fields_along_depth(facts)
            or absent("Receptive field along depth", nobody),
        ),
        "knobs": (
            absent("Shares of knobs", knobs)
            if isinstance(knobs, Absent)
            else space_figures.knob_shares(knobs),
        ),
        "rejections": (absent("Rejected proposals", rejections),)
        if isinstance(rejections, Absent)
        else (
            space_figures.rejections_by_rule(rejections),
            space_figures.rejections_by_trial(rejections),
        ),
    }


def _drawn(parts: Iterable[Chart | Html]) -> Html:
    told = (figure(part) if isinstance(part, Chart) else part for part in parts)
    return element("div", *told, class_="charts")


def _summary(facts: Facts) -> Html:
    shown = [
        element("div", element("dt", what), element("dd", value), element("dd", below))
        for what, value, below in tiles(facts)
    ]
    return join_html([
        *([element("dl", *shown, class_="tiles")] if shown else []),
        element("div", *(element("p", told) for told in sentences(facts)), class_="words"),
    ])  # fmt: skip


def _finalists(facts: Facts) -> Html:
    if not facts.finalists:
        why = Absent("no network was trained to its end yet; run the search again: it goes on.")
        return absent("Finalists", why)
    return join_html(network(facts, each, i) for i, each in enumerate(facts.finalists, start=1))


def _document(facts: Facts, main: Html, charts: Sequence[Chart]) -> str:
    library, script = get_plotlyjs(), _packaged("page.js")
    policy = {
        "default-src": "'none'",
        "script-src": f"{_hash_of(library)} {_hash_of(script)}",
        "style-src": "'unsafe-inline'",  # Plotly sets styles while it draws
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    name = facts.study.name
    links = (element("a", title, href=f"#{key}") for key, title in _TITLES.items())
    return Template(_packaged("page.html")).substitute(
        policy="; ".join(f"{key} {value}" for key, value in policy.items()),
        title=element("title", f"{name}: archsearch report"),
        name=element("h1", name),
        made=element("p", one_line(made_on(facts.rows)), class_="made"),
        links=join_html(links),
        main=main,
        versions=f"archsearch {__version__}, plotly.js {get_plotlyjs_version()}",
        style=_packaged("page.css"),
        library=library,
        charts=script_json({chart.name: chart.figure for chart in charts}),
        script=script,
    )


def _packaged(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def _hash_of(script: str) -> str:
    """As a Content-Security-Policy names the one script that may run."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"
