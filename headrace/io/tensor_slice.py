"""Slices of tensors, as checkpoints of partitioned variables store them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from headrace.core import errors
from headrace.io import protos
from headrace.io.coding import (
    encode_ordered_signed,
    encode_ordered_string,
    encode_ordered_unsigned,
)

# The length that stands for all of a dimension; its start is 0.
FULL_EXTENT = -1
_INT64_MAX = (1 << 63) - 1


@dataclasses.dataclass(frozen=True, slots=True)
class TensorSlice:
    """A box within a tensor: for each dimension a start and a length, or all of it (0, -1)."""

    extents: tuple[tuple[int, int], ...]

    @classmethod
    def full(cls, rank: int) -> TensorSlice:
        """All of a tensor of `rank` axes."""
        return cls(((0, FULL_EXTENT),) * rank)

    @classmethod
    def of(cls, spec: TensorSlice | Iterable[tuple[int, int | None]]) -> TensorSlice:
        """Returns `spec`, a slice or (start, length) pairs (None and -1: all), checked.

        Raises InvalidArgumentError: a negative start, or a length that is not positive.
        """
        if isinstance(spec, TensorSlice):
            return spec
        extents = []
        for start, length in spec:
            length = FULL_EXTENT if length is None else int(length)
            start = int(start)
            if (start, length) != (0, FULL_EXTENT) and (
                start < 0 or length <= 0 or start + length > _INT64_MAX
            ):
                raise errors.InvalidArgumentError(
                    None,
                    None,
                    "Expected non-negative start and positive length but got "
                    f"start = {start}, length = {length}",
                )
            extents.append((start, length))
        return cls(tuple(extents))

    @classmethod
    def parse(cls, text: str) -> TensorSlice:
        """Returns the slice that `text`, such as `-:0,5`, writes.

        Raises InvalidArgumentError: an item that is neither `-` nor `start,length`.
        """
        extents = []
        for item in filter(None, text.split(":")):
            if item == "-":
                extents.append((0, FULL_EXTENT))
                continue
            try:
                start, length = (int(number) for number in item.split(","))
            except ValueError:
                raise errors.InvalidArgumentError(
                    None,
                    None,
                    f"Expected a pair of numbers or '-' but got '{item}': string = {text}",
                ) from None
            if start < 0 or length <= 0:
                raise errors.InvalidArgumentError(
                    None,
                    None,
                    "Expected non-negative start and positive length but got "
                    f"start = {start}, length = {length}: string = {text}",
                )
            extents.append((start, length))
        return cls(tuple(extents))

    @classmethod
    def from_proto(cls, proto) -> TensorSlice:
        """Returns the slice of a TensorSliceProto.  Raises InvalidArgumentError, as `of`."""
        return cls.of(
            (e.start, e.length if e.WhichOneof("has_length") else FULL_EXTENT) for e in proto.extent
        )

    def to_proto(self):
        """Returns a TensorSliceProto."""
        proto = protos.TensorSliceProto()
        for start, length in self.extents:
            extent = proto.extent.add()
            if length != FULL_EXTENT:
                extent.start = start
                extent.length = length
        return proto

    @property
    def is_full(self) -> bool:
        """Whether it is written as all of every dimension."""
        return all(length == FULL_EXTENT for _, length in self.extents)

    def resolve(self, shape: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Returns (start, length) in every dimension of a tensor of `shape`, none of them -1.

        Raises InternalError: other ranks, or a part of the slice outside of the shape.
        """
        if len(shape) != len(self.extents):
            raise errors.InternalError(
                None, None, f"Mismatching ranks: shape = {list(shape)}, slice = {self}"
            )
        resolved = []
        for d, ((start, length), size) in enumerate(zip(self.extents, shape, strict=True)):
            if length == FULL_EXTENT:
                length = size
            elif start + length > size:
                raise errors.InternalError(
                    None,
                    None,
                    f"Extent in dimension {d} out of bounds: shape = {list(shape)}, slice = {self}",
                )
            resolved.append((start, length))
        return tuple(resolved)

    def shape_within(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Returns the shape of this slice of a tensor of `shape`.  Raises as `resolve`."""
        return tuple(length for _, length in self.resolve(shape))

    def key(self, name: str) -> bytes:
        """Returns the key under which a checkpoint stores this slice of tensor `name`."""
        parts = [
            encode_ordered_unsigned(0),
            encode_ordered_string(name.encode("utf-8", "surrogateescape")),
            encode_ordered_unsigned(len(self.extents)),
        ]
        for start, length in self.extents:
            parts += encode_ordered_signed(start), encode_ordered_signed(length)
        return b"".join(parts)

    def __str__(self) -> str:
        return ":".join("-" if e[1] == FULL_EXTENT else f"{e[0]},{e[1]}" for e in self.extents)


def parse_shape_and_slice(
    text: str,
) -> tuple[tuple[int, ...], TensorSlice, tuple[int, ...]]:
    """Returns the full shape, the slice and its shape that `text`, such as `10 4 0,5:-`, writes.

    Raises InvalidArgumentError: malformed text.  InternalError: the slice does not fit the shape.
    """
    *sizes, slice_text = text.split(" ")
    if not sizes:
        raise errors.InvalidArgumentError(
            None, None, f"Need least two elements in shape_and_slice specification: {text}"
        )
    tensor_slice = TensorSlice.parse(slice_text)
    try:
        shape = tuple(int(size) for size in sizes)
    except ValueError:
        raise errors.InvalidArgumentError(
            None, None, f"Non numerical dimension in shape_and_slice: {text}"
        ) from None
    if any(size < 0 for size in shape):
        raise errors.InvalidArgumentError(
            None, None, f"Negative dimension in shape_and_slice: {text}"
        )
    return shape, tensor_slice, tensor_slice.shape_within(shape)


Box = tuple[tuple[int, int], ...]


def assemble(
    name: str,
    shape: Sequence[int],
    np_dtype: np.dtype,
    wanted_slice: TensorSlice,
    stored: Sequence[tuple[TensorSlice, Box]],
    read: Callable[[TensorSlice, Box], np.ndarray],
) -> np.ndarray:
    """Returns a slice of the tensor `name` of `shape`, put together from stored slices.

    stored: slices that do not overlap, each with its box.  read: returns one of them.
    Raises InvalidArgumentError: they do not cover it.  InternalError: it does not fit the shape.
    """
    wanted = wanted_slice.resolve(shape)
    needed = [
        (s, box, shared) for s, box in stored if (shared := intersect(wanted, box)) is not None
    ]
    volume = sum(math.prod(length for _, length in shared) for _, _, shared in needed)
    if volume != math.prod(length for _, length in wanted):
        raise errors.InvalidArgumentError(
            None,
            None,
            f"Does not have sufficient slices for partitioned tensor {name} "
            f"to restore in slice_spec: {wanted_slice}",
        )
    if len(needed) == 1 and needed[0][1] == wanted:
        return read(needed[0][0], wanted)
    result: np.ndarray | None = None
    for tensor_slice, box, shared in needed:
        part = read(tensor_slice, box)
        if result is None:
            # Only now: a false shape in the file fails at its first slice, and takes no memory.
            result = np.empty([length for _, length in wanted], np_dtype)
        result[_index_within(shared, wanted)] = part[_index_within(shared, box)]
    if result is None:
        result = np.empty([length for _, length in wanted], np_dtype)
    return result


def intersect(first: Box, second: Box) -> Box | None:
    """Returns the box that two resolved boxes share, or None where they share nothing."""
    shared = []
    for (start_a, length_a), (start_b, length_b) in zip(first, second, strict=True):
        start = max(start_a, start_b)
        length = min(start_a + length_a, start_b + length_b) - start
        if length <= 0:
            return None
        shared.append((start, length))
    return tuple(shared)


def _index_within(box: Box, outer: Box) -> tuple[slice, ...]:
    """Returns the NumPy index of `box` in an array that holds `outer`."""
    return tuple(
        slice(start - base, start - base + length)
        for (start, length), (base, _) in zip(box, outer, strict=True)
    )
