"""IndexedSlices: the gradient of a gather, some rows of a larger tensor."""

from __future__ import annotations

import collections
from typing import Any

from headrace.core.tensor_shape import TensorShape
from headrace.graph.tensor import Tensor

IndexedSlicesValue = collections.namedtuple(
    "IndexedSlicesValue", ["values", "indices", "dense_shape"]
)


class IndexedSlices:
    """Rows `values[i]` of a tensor at row numbers `indices[i]`; rows not named are zero, repeated ones add up.

    values: [n, d1, ...]. indices: [n], int32 or int64. dense_shape: the shape of the whole, or None.
    """

    __slots__ = ("_dense_shape", "_indices", "_values")

    def __init__(self, values: Tensor, indices: Tensor, dense_shape: Tensor | None = None) -> None:
        self._values, self._indices, self._dense_shape = values, indices, dense_shape

    @property
    def values(self) -> Tensor:
        """The rows."""
        return self._values

    @property
    def indices(self) -> Tensor:
        """The number of each row."""
        return self._indices

    @property
    def dense_shape(self) -> Tensor | None:
        """The shape of the whole tensor, or None."""
        return self._dense_shape

    @property
    def shape(self) -> TensorShape:
        """The static shape of the whole tensor, as far as known."""
        from headrace.graph.constant_value import constant_value_as_shape

        if self._dense_shape is None:
            return TensorShape(None)
        return TensorShape.of(constant_value_as_shape(self._dense_shape))

    @property
    def name(self) -> str:
        """The name of `values`."""
        return self._values.name

    @property
    def device(self) -> str:
        """The device of `values`."""
        return self._values.device

    @property
    def op(self) -> Any:
        """The operation that produces `values`."""
        return self._values.op

    @property
    def _values_for_control(self) -> Any:
        # As a control input, slices stand for the operation of their values.
        return self._values.op

    @property
    def dtype(self) -> Any:
        """The type of the elements."""
        return self._values.dtype

    @property
    def graph(self) -> Any:
        """The graph of the parts."""
        return self._values.graph

    def consumers(self) -> list[Any]:
        """The operations that take `values`."""
        return self._values.consumers()

    def __neg__(self) -> IndexedSlices:
        return IndexedSlices(-self._values, self._indices, self._dense_shape)

    def __str__(self) -> str:
        shape = f", dense_shape={self._dense_shape}" if self._dense_shape is not None else ""
        return f"IndexedSlices(indices={self._indices}, values={self._values}{shape})"

    __repr__ = __str__
