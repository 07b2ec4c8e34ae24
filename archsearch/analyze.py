"""What a network costs and sees, layer by layer and in total, by integer arithmetic alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from archsearch.cautions import Caution, cautions
from archsearch.network import FeatureMap, Join, Network, Trunk
from archsearch.ops import Pair
from archsearch.resolve import resolve
from archsearch.rows import STARTS_ROW, Row, map_bytes, rows_of
from archsearch.spec import Spec
from archsearch.spec_hash import spec_hash
from archsearch.totals import Totals, totals_of


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
        """Which network this is: see `spec_hash.spec_hash`."""
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

    @property
    def clipped(self) -> Pair | None:
        """(height, width) the most pixels, first to last, that a cell of that map sees.

        None where the network is too large to follow pixel by pixel.
        """
        before = [row for row in self.rows if row.after.gate is None and not row.after.flat]
        seen = before[-1].seen if before else self.rows[-1].seen
        return seen.clipped if seen else None

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The layers, block by block."""
        return rows_of(self.network)

    @cached_property
    def peak_activation_bytes(self) -> int:
        """The most alive at once: fp32, one image, norms and activations in place."""
        return _peak_bytes(self.network.trunk, self.network.image, 0)

    @cached_property
    def cautions(self) -> tuple[Caution, ...]:
        """What no limit forbids and its author should know."""
        return tuple(cautions(self.network, self.rows))


def analyze(spec: Spec) -> Analysis:
    """Count and measure `spec`.

    Raises:
        InputError: its shapes do not fit together.
    """
    return Analysis(resolve(spec))


def _peak_bytes(trunk: Trunk, image: FeatureMap, held: int) -> int:
    """The most alive at once: an operation's input and output, and what branches hold back."""
    peak = held + map_bytes(image)
    for node in trunk:
        if isinstance(node, Join):
            waiting = held
            for i, branch in enumerate(node.branches):
                # The input stays for the branches to come; a finished branch waits for the merge.
                keeps_input = map_bytes(node.before) if i + 1 < len(node.branches) else 0
                peak = max(peak, _peak_bytes(branch, node.before, waiting + keeps_input))
                waiting += map_bytes(branch[-1].after if branch else node.before)
            peak = max(peak, waiting + map_bytes(node.after))
        elif isinstance(node.op, STARTS_ROW):
            peak = max(peak, held + map_bytes(node.before) + map_bytes(node.after))
    return peak
