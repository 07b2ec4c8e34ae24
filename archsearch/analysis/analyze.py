"""What a network costs and sees, layer by layer and in total, by integer arithmetic alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from archsearch.analysis.layer_table import STARTS_GROUP, LayerRow, map_bytes, rows_of
from archsearch.analysis.pixel_coverage import Sights, follow
from archsearch.analysis.totals import Totals, totals_of
from archsearch.analysis.warnings import SpecWarning, spec_warnings
from archsearch.spec.hash import spec_hash
from archsearch.spec.models import Spec
from archsearch.spec.network import FeatureMap, Join, Network, Trunk
from archsearch.spec.ops import Pair
from archsearch.spec.resolve import resolve


@dataclass(frozen=True)
class Analysis:
    """All that can be said of a network without running it; each figure is worked out once."""

    network: Network

    @property
    def spec(self) -> Spec:
        """What was analyzed."""
        return self.network.spec

    @cached_property
    def spec_hash(self) -> str:
        """Which network this is: see `hash.spec_hash`."""
        return spec_hash(self.network)

    @cached_property
    def totals(self) -> Totals:
        """What limits are held against."""
        return totals_of(self.network)

    @property
    def params(self) -> int:
        """Learnable scalars."""
        return self.totals.params

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and linear layers, for one image."""
        return self.totals.macs

    @property
    def receptive_field(self) -> Pair:
        """(height, width) in pixels, of one cell of the last map before global pooling."""
        return self.totals.receptive_field

    @property
    def receptive_field_with_gap(self) -> Pair:
        """(height, width) in pixels, of the logits."""
        return self.totals.receptive_field_with_gap

    @cached_property
    def sights(self) -> Sights | None:
        """Which pixels every map sees; None where the network is too large to follow."""
        return follow(self.network)

    @property
    def clipped(self) -> Pair | None:
        """(height, width) the most pixels, first to last, that a cell of that map sees."""
        return self.sights.gate.clipped if self.sights else None

    @cached_property
    def rows(self) -> tuple[LayerRow, ...]:
        """The layers, block by block."""
        return rows_of(self.network, self.sights)

    @cached_property
    def peak_activation_bytes(self) -> int:
        """The most alive at once: fp32, one image, norms and activations in place."""
        return _peak_bytes(self.network.trunk, self.network.image, 0)

    @cached_property
    def warnings(self) -> tuple[SpecWarning, ...]:
        """What no limit forbids and its author should know."""
        return tuple(spec_warnings(self.network, self.rows, self.sights))


def analyze(spec: Spec) -> Analysis:
    """Count and measure `spec`.

    Raises:
        InputError: its shapes do not fit together.
    """
    return Analysis(resolve(spec))


def _peak_bytes(trunk: Trunk, image: FeatureMap, held: int, *, kept: bool = False) -> int:
    """The most alive at once: an operation's input and output, and what branches hold back.

    Others wait for `held` bytes; where the input is `kept` for them, it is among these.
    """
    peak = held + (0 if kept else map_bytes(image))
    for node in trunk:
        if isinstance(node, Join):
            mine = 0 if kept else map_bytes(node.before)
            same = any(not branch for branch in node.branches)  # the input is a result itself
            waiting = held
            for i, branch in enumerate(node.branches):
                wanted = same or kept or i + 1 < len(node.branches)
                inside = waiting + (mine if wanted else 0)
                peak = max(peak, _peak_bytes(branch, node.before, inside, kept=wanted))
                waiting += map_bytes(branch[-1].after) if branch else 0
            peak = max(peak, waiting + (mine if same else 0) + map_bytes(node.after))
        elif isinstance(node.op, STARTS_GROUP):
            peak = max(peak, held + (0 if kept else map_bytes(node.before)) + map_bytes(node.after))
        elif kept:  # it would work in place, but others want its input: a copy
            peak = max(peak, held + map_bytes(node.after))
        kept = False
    return peak
