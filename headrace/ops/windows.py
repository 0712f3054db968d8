"""Sizes of windows that slide over images: what convolution and pooling have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headrace.graph import shapes


@dataclass(frozen=True)
class Layout:
    """Which axis of a tensor holds what; `spatial` in the order depth, height, width."""

    batch: int
    spatial: tuple[int, ...]
    channel: int

    @property
    def rank(self) -> int:
        return len(self.spatial) + 2

    def pick(self, values: Sequence[Any]) -> list[Any]:
        """The entries of `values` (one for each axis) that belong to the spatial axes."""
        return [values[axis] for axis in self.spatial]

    def join(self, batch: Any, spatial: Sequence[Any], channel: Any) -> tuple[Any, ...]:
        """A tuple with one entry for each axis."""
        joined = [None] * self.rank
        joined[self.batch], joined[self.channel] = batch, channel
        for axis, value in zip(self.spatial, spatial, strict=True):
            joined[axis] = value
        return tuple(joined)


def layout(data_format: str) -> Layout:
    """The layout of "NHWC", "NCHW", "NDHWC", "NCDHW", "NWC" or "NCW"."""
    return Layout(
        data_format.index("N"),
        tuple(i for i, c in enumerate(data_format) if c in "DHW"),
        data_format.index("C"),
    )


def output_size(
    op: Any,
    size: int | None,
    window: int | None,
    stride: int,
    dilation: int = 1,
    padding: str = "VALID",
    explicit: tuple[int, int] = (0, 0),
) -> int | None:
    """How many places a window has along one axis, None where it cannot be known.

    Raises ValueError (from `op.error`): the window is larger than the axis.
    """
    if stride <= 0:
        raise op.error(f"Stride must be > 0, but got {stride}.")
    if size is None or (window is None and padding != "SAME"):
        return None
    if padding == "SAME":
        return -(-size // stride)
    reach = (window - 1) * dilation + 1
    total = size + sum(explicit) if padding == "EXPLICIT" else size
    if total < reach:
        raise op.error(
            f"Negative dimension size caused by subtracting {reach} from {total}: the window is "
            "larger than the padded input."
        )
    return (total - reach + stride) // stride


def pad_sizes(
    op: Any,
    size: int,
    window: int,
    stride: int,
    dilation: int = 1,
    padding: str = "VALID",
    explicit: tuple[int, int] = (0, 0),
) -> tuple[int, int]:
    """The padding before and after one axis. Raises InvalidArgumentError: the window is larger than the axis.

    For sizes at run time; `op` needs only what a rule may use while the graph runs.
    """
    reach = (window - 1) * dilation + 1
    if padding == "SAME":
        places = -(-size // stride)
        total = max((places - 1) * stride + reach - size, 0)
        return total // 2, total - total // 2
    before, after = explicit if padding == "EXPLICIT" else (0, 0)
    if (size + before + after - reach + stride) // stride < 0:
        raise op.invalid(
            f"Computed output size would be negative: {(size + before + after - reach + stride) // stride} "
            f"[input_size: {size + before + after}, effective_filter_size: {reach}, stride: {stride}]"
        )
    return before, after


def per_axis(op: Any, name: str, rank: int) -> list[int]:
    """The list attr `name`, one number for each axis. Raises ValueError: of another length."""
    values = op.attr(name)
    if len(values) != rank:
        raise op.error(
            f"requires the {name.removesuffix('s')} attribute to contain {rank} values, but got: {len(values)}."
        )
    return values


def explicit_pads(op: Any, rank: int) -> list[tuple[int, int]]:
    """The attr `explicit_paddings` as pairs, one for each axis; zeros where the padding is not "EXPLICIT"."""
    values = op.attr("explicit_paddings") if op.attr("padding") == "EXPLICIT" else [0] * (2 * rank)
    return list(zip(values[::2], values[1::2], strict=True))


def sizes_from(op: Any, index: int, rank: int) -> tuple[int | None, ...]:
    """The shape that input `index`, a vector of sizes, describes. Raises ValueError: not of `rank` sizes."""
    return shapes.with_rank(op, shapes.sizes_of(op, index), rank, "sizes")
