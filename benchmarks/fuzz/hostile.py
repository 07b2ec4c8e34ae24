"""Values that have broken programs before."""

from __future__ import annotations

import json
import math
from random import Random
from typing import Any, Final

MARK: Final = "PWNED"
ESCAPE: Final = f"\x1b[7;91m{MARK}"
"""A color that nothing of ours prints, so that it is known even where colors are wanted."""
MARKUP: Final = f"<img src=x onerror={MARK}>"
_TRAVERSAL = ("..", "../../../v", "../v", "../../../../outside/v", ".", "a/b", "C:\\x")
"""Only what stays inside the world that is attacked (see `base.World.work`), were it obeyed."""
_WRITING = (
    ESCAPE, f"\x1b]0;{MARK}\x07", f"\x9b31m{MARK}", f"\r\n{MARK}", f"\u202e{MARK}", "\u2028", "\0",
    "\x7f", "\b" * 5, "\ud800", "é✓漢😀", "\ufeff", "\t",
)  # fmt: skip
_CODE = (
    MARKUP, f"</script><script>{MARK}</script>", f"[red]{MARK}[/red]", "[/]", "=1+1", "%s%n{0}{a}",
    "'; DROP TABLE trials; --", "$(touch v)", "__class__", "__proto__", "$ref", "a.b", "a.0.b",
)  # fmt: skip
_LOOKS_LIKE = (
    "", " ", "nan", "null", "true", "1e999", "-1", "0", "1", "2024-13-45", "[]", "{}", "cuda:99",
    "accuracy", "conv", "sqlite:///x", "inf",
)  # fmt: skip
STRINGS: Final = (*_TRAVERSAL, *_WRITING, *_CODE, *_LOOKS_LIKE, "A" * 5_000, "漢" * 300)
NUMBERS: Final[tuple[float, ...]] = (
    0, -1, 1, 2, 3, 7, 255, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63), 10**30, 10**400, 0.5, -0.0,
    1e-320, 1e308, -1e308, math.nan, math.inf, -math.inf, 1.0000000001,
)  # fmt: skip
_OTHERS: tuple[Any, ...] = (None, True, False, [], {}, [[]], {"a.b": 1}, [None], [1, "a"], {"": {}})
_DEPTH = 100_000
RAW: Final = {
    "@1e999@": "1e999",
    "@digits@": "9" * 5_000,
    "@deep@": "[" * _DEPTH + "]" * _DEPTH,
    "@deep objects@": '{"a":' * 2_000 + "1" + "}" * 2_000,
    "@open@": "[" * _DEPTH,
    "@bare@": "NaN",
    "@nothing@": "",
    "@surrogate@": '"\\ud800"',
}
"""Text that no value of Python gives, by the string that stands for it."""


def string(rng: Random) -> str:
    """Return a string that somebody may trip over."""
    return rng.choice(STRINGS)


def value(rng: Random) -> Any:
    """Return anything that JSON can hold, and some of what it cannot."""
    pool = rng.choice((STRINGS, NUMBERS, NUMBERS, _OTHERS, tuple(RAW)))
    found = rng.choice(pool)
    return json.loads(json.dumps(found)) if isinstance(found, list | dict) else found
