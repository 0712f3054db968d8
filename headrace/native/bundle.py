"""Bundles: many small arrays of any types in one buffer.

A program takes and returns a bundle in the time of one array; each array of its own costs JAX one or two microseconds.
XLA itself takes minutes to compile a program that puts hundreds of arrays together by concatenation.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from headrace.core import dtypes
from headrace.native.library import available

# A larger array is copied in the time that an argument of its own costs.
MOST_BYTES = 4096

# Arrays begin at multiples of this: the kernel's own rule.
_ALIGNMENT = 16

_BFLOAT16 = dtypes.bfloat16.np_dtype

Kind = tuple[tuple[int, ...], np.dtype]
"""The shape and the type of an array."""


class Misfit(Exception):
    """An array is not of the shape and type that its place in a bundle is for."""

    def __init__(self, index: int) -> None:
        super().__init__(f"array {index} does not fit into its place of a bundle")
        self.index = index


def is_small(value: Any) -> bool:
    """Whether an array, traced or not, is worth to be in a bundle. Never where the kernels are missing."""
    kind = getattr(value, "dtype", None)
    if not isinstance(kind, np.dtype):
        return False  # no array, or keys of random numbers
    if kind.kind not in "biufc" and kind != _BFLOAT16:
        return False
    return 0 < value.size * kind.itemsize <= MOST_BYTES and available()


class Layout:
    """Where the arrays of a bundle lie."""

    __slots__ = ("_record", "_scalars", "kinds", "size")

    def __init__(self, kinds: Iterable[Kind]) -> None:
        """kinds: of each array, none of them empty."""
        self.kinds = tuple(kinds)
        sizes = [_room(shape, kind) for shape, kind in self.kinds]
        self.size = sum(sizes)
        # NumPy takes a record with a field for each array apart, and puts it together, in a tenth of the time of a loop.
        self._record = np.dtype(
            {
                "names": [str(i) for i in range(len(sizes))],
                "formats": [(kind, shape or (1,)) for shape, kind in self.kinds],
                "offsets": list(itertools.accumulate(sizes, initial=0))[:-1],
                "itemsize": self.size,
            }
        )
        self._scalars = tuple(i for i, (shape, _) in enumerate(self.kinds) if not shape)

    @classmethod
    def of(cls, values: Iterable[Any]) -> Layout:
        """The layout for arrays like these."""
        return cls((tuple(v.shape), v.dtype) for v in values)

    def _check(self, values: Sequence[Any]) -> None:
        for i, (value, (shape, kind)) in enumerate(zip(values, self.kinds, strict=True)):
            if value.dtype != kind or value.shape != shape:
                raise Misfit(i)

    def split(self, buffer: Any) -> list[np.ndarray]:
        """The arrays of a bundle, as views of it. buffer: uint8[size], of NumPy's or JAX's."""
        arrays: list[Any] = list(np.asarray(buffer).view(self._record).item())
        for i in self._scalars:
            arrays[i] = arrays[i].reshape(())
        return arrays

    def join(self, values: Sequence[Any]) -> np.ndarray:
        """The bundle of `values`, which nobody may write to. Raises Misfit: a value of another shape or type."""
        self._check(values)
        record = np.zeros((), self._record)
        record[()] = tuple([np.asarray(v) for v in values])
        buffer = record.reshape(1).view(np.uint8)
        buffer.flags.writeable = False
        return buffer

    def bundle(self, values: Sequence[Any]) -> Any:
        """As `join`, in a traced program."""
        self._check(values)
        result = jax.ShapeDtypeStruct((self.size,), np.uint8)
        return jax.ffi.ffi_call("headrace_bundle", result)(*values)

    def unbundle(self, buffer: Any) -> Sequence[Any]:
        """As `split`, in a traced program."""
        results = [jax.ShapeDtypeStruct(shape, kind) for shape, kind in self.kinds]
        return jax.ffi.ffi_call("headrace_unbundle", results)(buffer)


def _room(shape: tuple[int, ...], kind: np.dtype) -> int:
    return -(-kind.itemsize * math.prod(shape) // _ALIGNMENT) * _ALIGNMENT
