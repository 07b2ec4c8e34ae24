"""Find small convolutional networks within hard limits: validate, search, train, review.

    import archsearch as asr

    verdict = asr.validate("spec.json", constraints="cifar10-200k")
    result = asr.search("demo", trials=10)

The names in `__all__` are the public API; everything else may change. Each name is imported on
first use (PEP 562), so importing archsearch is fast.
"""

from __future__ import annotations

from importlib import import_module

from archsearch.common.version import __version__ as __version__

TYPE_CHECKING = False  # type checkers take it for true; loading `typing` takes longer than the rest
if TYPE_CHECKING:
    from archsearch.analysis.constraints import Constraints
    from archsearch.analysis.validate import validate
    from archsearch.convert.from_module import from_module
    from archsearch.convert.to_module import to_module
    from archsearch.diagnosis import diagnose
    from archsearch.errors import ArchsearchError, InputError, Problem
    from archsearch.leaderboard.reader import read_leaderboard
    from archsearch.search.run import search
    from archsearch.search.sampler import FeasibleSampler, suggest_spec
    from archsearch.space.four_blocks import Space
    from archsearch.spec.load import load_spec
    from archsearch.spec.models import Spec
    from archsearch.study.config import Study, load_study
    from archsearch.training.recipe import Recipe
    from archsearch.training.train import train

__all__ = [
    "ArchsearchError",
    "Constraints",
    "FeasibleSampler",
    "InputError",
    "Problem",
    "Recipe",
    "Space",
    "Spec",
    "Study",
    "diagnose",
    "from_module",
    "load_spec",
    "load_study",
    "read_leaderboard",
    "search",
    "suggest_spec",
    "to_module",
    "train",
    "validate",
]

_HOMES = {
    "ArchsearchError": "errors",
    "Constraints": "analysis.constraints",
    "FeasibleSampler": "search.sampler",
    "InputError": "errors",
    "Problem": "errors",
    "Recipe": "training.recipe",
    "Space": "space.four_blocks",
    "Spec": "spec.models",
    "Study": "study.config",
    "diagnose": "diagnosis",
    "from_module": "convert.from_module",
    "load_spec": "spec.load",
    "load_study": "study.config",
    "read_leaderboard": "leaderboard.reader",
    "suggest_spec": "search.sampler",
    "to_module": "convert.to_module",
    "train": "training.train",
    "validate": "analysis.validate",
}
"""The module that defines each name. `search` is missing: it is the package, which is callable."""


if not TYPE_CHECKING:  # or type checkers would accept any name

    def __getattr__(name: str) -> object:
        if name == "search":
            return import_module("archsearch.search")
        if name not in _HOMES:
            raise AttributeError(f"module 'archsearch' has no attribute {name!r}")
        value = getattr(import_module(f"archsearch.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
