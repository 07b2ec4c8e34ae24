"""HTML whose text is escaped unless it says that it is markup already."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from archsearch.common.page_html import html_text

_VOID = frozenset({"img", "link", "meta"})


class Html(str):
    """Text that is markup."""

    __slots__ = ()


def element(tag: str, *children: str, **attributes: str | None) -> Html:
    """An element; children that are no `Html` are escaped, and so is every attribute.

    Args:
        tag: its name.
        children: what is inside.
        attributes: a trailing underscore is dropped, others become hyphens; None leaves one out.

    >>> element("td", "<b>", class_="a", data_value='"')
    '<td class="a" data-value="&quot;">&lt;b&gt;</td>'
    """
    told = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html_text(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Html(f"<{tag}{told}>")
    return Html(f"<{tag}{told}>{join_html(children)}</{tag}>")


def join_html(parts: Iterable[str]) -> Html:
    """Join parts; those that are not `Html` are escaped."""
    return Html("".join(part if isinstance(part, Html) else html_text(part) for part in parts))


def script_json(value: Any) -> Html:
    """JSON that may stand inside a script element: nothing in it ends the element or a line."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)  # ASCII: no U+2028
    for c in "<>&":
        text = text.replace(c, f"\\u{ord(c):04x}")
    return Html(text)
