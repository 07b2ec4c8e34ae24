"""Search for networks within the limits, train them, retrain and test the best.

This package is callable: `archsearch.search(study, trials=50)` calls
`archsearch.search.run.search`; see its help for the arguments. (A plain function called
`archsearch.search` would be replaced by the package as soon as one of its modules is imported.)

Example:
    >>> import archsearch as asr
    >>> result = asr.search("demo", trials=3, on_event=print)  # doctest: +SKIP
    >>> result.leaderboard[["rank", "val_acc", "params"]]  # doctest: +SKIP

It wraps Optuna: a sampler that respects the limits, the driver, its database and CSV files.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archsearch.search.run import SearchResult


class _Search(ModuleType):
    """This package, callable."""

    def __call__(self, *args: Any, **options: Any) -> SearchResult:
        from archsearch.search.run import search

        return search(*args, **options)

    def __reduce__(self) -> tuple[Callable[[str], ModuleType], tuple[str]]:
        return import_module, (self.__name__,)

    @property
    def __signature__(self) -> inspect.Signature:
        from archsearch.search.run import search

        return inspect.signature(search)


sys.modules[__name__].__class__ = _Search
