"""What the cells of a map see of the image: the receptive-field recurrence, one axis at a time."""

from __future__ import annotations

from typing import NamedTuple


class Axis(NamedTuple):
    """One axis of a map, as seen from the image.

    Recurrence: Araujo, Norris, Sim, "Computing Receptive Fields of Convolutional Neural
    Networks", Distill 2019, doi:10.23915/distill.00021.

    Attributes:
        size: cells.
        jump: image pixels from one cell to the next.
        rf: image pixels that one cell can see, first to last.
        left: the first image pixel that cell 0 can see; negative in the padding.
    """

    size: int
    jump: int = 1
    rf: int = 1
    left: int = 0

    @property
    def start(self) -> float:
        """The centre of what cell 0 sees, in image pixels."""
        return self.left + (self.rf - 1) / 2

    @property
    def rf_of_all(self) -> int:
        """Image pixels that all cells together see: r + (n - 1) * j."""
        return self.rf + (self.size - 1) * self.jump

    def slide(self, size: int, span: int, stride: int, padding_before: int) -> Axis:
        """Return the axis after a window of `span` cells has moved over it.

        r += (span - 1) * j with the jump *before* the window's own stride, then j *= stride.
        Dilation widens the span (`ops.extent`) and never changes the jump; padding moves `left`
        and never changes r.
        """
        jump = self.jump
        return Axis(
            size, jump * stride, self.rf + (span - 1) * jump, self.left - padding_before * jump
        )

    def pooled(self) -> Axis:
        """The axis after one window over all of it."""
        return Axis(size=1, jump=self.jump, rf=self.rf_of_all, left=self.left)
