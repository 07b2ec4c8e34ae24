"""Validate a network from a script or a notebook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from archsearch.analysis.analyze import analyze
from archsearch.analysis.constraints import Constraints, Verdict, judge, load_constraints
from archsearch.analysis.verdict_view import verdict_data, verdict_page
from archsearch.common.page import plain
from archsearch.common.page_html import html
from archsearch.common.parse import Given, source_of
from archsearch.errors import named_as
from archsearch.spec.load import load_spec
from archsearch.spec.models import Spec

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, repr=False)
class Validation(Verdict):
    """A verdict with its main numbers as attributes, shown as a table (HTML in a notebook)."""

    @property
    def spec_hash(self) -> str:
        """Which network this is; the same for two specs that build the same one."""
        return self.analysis.spec_hash

    @property
    def params(self) -> int:
        """Learnable scalars."""
        return self.analysis.params

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return self.analysis.macs

    @property
    def receptive_field(self) -> int | tuple[int, int]:
        """Image pixels before global pooling; (height, width) where the axes differ."""
        return _one_or_both(self.analysis.receptive_field)

    @property
    def receptive_field_with_gap(self) -> int | tuple[int, int]:
        """Image pixels that a logit sees; (height, width) where the axes differ."""
        return _one_or_both(self.analysis.receptive_field_with_gap)

    def layers_frame(self) -> pd.DataFrame:
        """Return one row per layer, with the columns of `archsearch validate --format json`."""
        import pandas as pd

        return pd.DataFrame(verdict_data("", self)["layers"])

    def __repr__(self) -> str:
        return plain(verdict_page(self)).rstrip("\n")

    def _repr_html_(self) -> str:
        return html(verdict_page(self))


def validate(spec: Spec | Given, constraints: Constraints | Given | None = None) -> Validation:
    """Compute a network's parameters, MACs and receptive field, and check them against the limits.

    Args:
        spec: a `Spec`, a spec file or a dict.
        constraints: a name ("cifar10-200k", the default), a file, a dict or `Constraints`.

    Returns:
        A verdict with `accepted`, `violations`, `warnings`, `params`, `macs`, `receptive_field`
        and more. Broken limits are listed in `violations`; they do not raise an exception.

    Raises:
        InputError: the spec or the limits are invalid; the error lists all problems.

    Example:
        >>> import archsearch as asr
        >>> spec = asr.load_spec("studies/seeds/era-s9/spec.json")
        >>> verdict = asr.validate(spec, constraints="cifar10-200k")
        >>> verdict.accepted, verdict.params, verdict.receptive_field
        (False, 214651, 77)
        >>> print(verdict.violations[0].message)
        214,651 parameters, 14,651 over the limit of 200,000
        >>> asr.validate(spec, {"max_params": None}).accepted
        True
    """
    limits = load_constraints(constraints)
    with named_as(source_of(spec)):
        verdict = judge(analyze(load_spec(spec)), limits)
    return Validation(verdict.analysis, limits, verdict.violations)


def _one_or_both(sides: tuple[int, int]) -> int | tuple[int, int]:
    return sides[0] if sides[0] == sides[1] else sides
