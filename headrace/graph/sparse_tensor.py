"""SparseTensor: the places and the values of the elements of a tensor that are not zero."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np

from headrace.core import dtypes, structures
from headrace.core.reference import Reference
from headrace.core.tensor_shape import TensorShape, as_shape
from headrace.graph import default, raw
from headrace.graph.constant_value import constant_value_as_shape
from headrace.graph.convert import convert_to_tensor
from headrace.graph.graph import Graph
from headrace.graph.operation import Operation
from headrace.graph.tensor import Dims, Tensor
from headrace.graph.type_spec import (
    BatchableTypeSpec,
    TensorSpec,
    register_type_spec_from_value_converter,
)

SparseTensorValue = collections.namedtuple(
    "SparseTensorValue", ["indices", "values", "dense_shape"]
)


class SparseTensor:
    """A tensor of which only the elements at `indices` are given; the others are zero.

    indices: [n, rank] int64, one row for each element; most operations need them in row-major order
    (`tf.sparse.reorder`). values: [n] of any type. dense_shape: [rank] int64. Each may be a tensor or convert to one.
    Raises ValueError: the shapes of the three do not fit.
    """

    def __init__(self, indices: Any, values: Any, dense_shape: Any) -> None:
        parts = (indices, values, dense_shape)
        graph = _graph_of(parts)
        with default.graph_as_default(graph), graph.name_scope("SparseTensor"):
            self._indices = convert_to_tensor(indices, dtypes.int64, name="indices")
            self._values = convert_to_tensor(values, name="values")
            self._dense_shape = convert_to_tensor(dense_shape, dtypes.int64, name="dense_shape")
        places = self._indices.shape.with_rank(2)
        places.dims[0].merge_with(self._values.shape.with_rank(1).dims[0])
        places.dims[1].merge_with(self._dense_shape.shape.with_rank(1).dims[0])

    @classmethod
    def from_value(cls, sparse_tensor_value: Any) -> SparseTensor:
        """The SparseTensor of a SparseTensorValue (or of another SparseTensor). Raises TypeError: neither."""
        if not is_sparse(sparse_tensor_value):
            raise TypeError(f"Neither a SparseTensor nor SparseTensorValue: {sparse_tensor_value}.")
        return SparseTensor(*_parts(sparse_tensor_value))

    # ---- what it is

    @property
    def indices(self) -> Tensor:
        """[n, rank] int64: where each value stands."""
        return self._indices

    @property
    def values(self) -> Tensor:
        """[n]: the values."""
        return self._values

    @property
    def dense_shape(self) -> Tensor:
        """[rank] int64: the shape of the whole."""
        return self._dense_shape

    @property
    def dtype(self) -> dtypes.DType:
        """The type of the values."""
        return self._values.dtype

    @property
    def shape(self) -> TensorShape:
        """The static shape of the whole, as far as known."""
        return TensorShape.of(constant_value_as_shape(self._dense_shape))

    def get_shape(self) -> TensorShape:
        """The same as `shape`."""
        return self.shape

    @property
    def op(self) -> Operation:
        """The operation that produces `values`."""
        return self._values.op

    @property
    def graph(self) -> Graph:
        """The graph of the parts."""
        return self._indices.graph

    @property
    def name(self) -> str:
        """The name of `values`."""
        return self._values.name

    @property
    def _values_for_control(self) -> Operation:
        # As a control input, it stands for the operation of its values.
        return self._values.op

    def consumers(self) -> list[Operation]:
        """The operations that take one of its parts."""
        found = [op for part in _parts(self) for op in part.consumers()]
        return list(dict.fromkeys(found))

    def experimental_ref(self) -> Reference:
        """A key for sets and dictionaries that stands for this very object; `deref()` gives it back."""
        return Reference(self)

    def eval(self, feed_dict: Any = None, session: Any = None) -> SparseTensorValue:
        """The SparseTensorValue of this tensor in `session` or in the default session."""
        run = default.session_for(session, self.graph, f"evaluate tensor {self.name!r}").run
        return SparseTensorValue(*run(list(_parts(self)), feed_dict))

    @staticmethod
    def _override_operator(operator: str, function: Any) -> None:
        setattr(SparseTensor, operator, function)

    def __str__(self) -> str:
        return (
            f"SparseTensor(indices={self._indices}, values={self._values}, "
            f"dense_shape={self._dense_shape})"
        )

    __repr__ = __str__

    # How control flow takes it apart and puts it together again.

    def _composite_parts(self) -> list[Tensor]:
        return list(_parts(self))

    def _with_parts(self, parts: list[Tensor]) -> SparseTensor:
        return SparseTensor(*parts)

    def _loop_invariant(self, tensor: Tensor) -> Dims:
        # The number of values may change from one iteration to the next; so may the sizes of the whole.
        dims = tensor._dims
        if dims is None or tensor is self._dense_shape:
            return dims
        return (None, *dims[1:])

    def _loop_invariants_from(self, invariant: Any) -> list[Dims]:
        """`invariant` is, as in TensorFlow, the shape of `dense_shape`: a vector of `rank` elements."""
        (rank,) = as_shape(invariant).with_rank(1).as_list()
        return [(None, rank), (None,), (rank,)]

    @property
    def _type_spec(self) -> SparseTensorSpec:
        return SparseTensorSpec(self.shape, self.dtype)


def _parts(value: Any) -> tuple[Any, Any, Any]:
    return value.indices, value.values, value.dense_shape


def _graph_of(values: Any) -> Graph:
    """The graph of the tensors among `values`. Raises ValueError: they are of several graphs."""
    current = default.get_default_graph()
    if current.building_function:
        return current
    graphs = {value.graph for value in values if isinstance(value, Tensor)}
    if len(graphs) > 1:
        raise ValueError("the parts of a SparseTensor must be from the same graph.")
    return graphs.pop() if graphs else current


def is_sparse(x: Any) -> bool:
    """Whether `x` is a SparseTensor or a SparseTensorValue."""
    return isinstance(x, (SparseTensor, SparseTensorValue))


def convert_to_tensor_or_sparse_tensor(
    value: Any, dtype: Any = None, name: str | None = None
) -> Any:
    """`value` as a SparseTensor where it is one or a SparseTensorValue, else as a tensor.

    Raises RuntimeError: a sparse tensor whose type is not `dtype`.
    """
    if not is_sparse(value):
        return convert_to_tensor(value, dtype, name=name)
    sparse = value if isinstance(value, SparseTensor) else SparseTensor.from_value(value)
    if dtype is not None and not dtypes.as_dtype(dtype).is_compatible_with(sparse.dtype):
        raise RuntimeError(
            f"Sparse dtype: requested = {dtypes.as_dtype(dtype).name}, actual = {sparse.dtype.name}"
        )
    return sparse


class SparseTensorSpec(BatchableTypeSpec):
    """Describes SparseTensors: the static shape of the whole and the type of the values."""

    __slots__ = ("_dtype", "_shape")

    def __init__(self, shape: Any = None, dtype: Any = dtypes.float32) -> None:
        self._shape, self._dtype = as_shape(shape), dtypes.as_dtype(dtype)

    @property
    def value_type(self) -> Any:
        """SparseTensor."""
        return SparseTensor

    @property
    def shape(self) -> TensorShape:
        """The static shape of the whole."""
        return self._shape

    @property
    def dtype(self) -> dtypes.DType:
        """The type of the values."""
        return self._dtype

    @classmethod
    def from_value(cls, value: Any) -> SparseTensorSpec:
        """The description of a SparseTensor or a SparseTensorValue. Raises TypeError: neither."""
        if isinstance(value, SparseTensorValue) and isinstance(value.values, np.ndarray):
            return cls(value.dense_shape, value.values.dtype)
        if not is_sparse(value):
            raise TypeError(f"Expected SparseTensor or SparseTensorValue, got {value!r}")
        sparse = value if isinstance(value, SparseTensor) else SparseTensor.from_value(value)
        return cls(sparse.shape, sparse.dtype)

    def _serialize(self) -> tuple[Any, ...]:
        return self._shape, self._dtype

    @property
    def _component_specs(self) -> list[TensorSpec]:
        rank = self._shape.ndims
        return [
            TensorSpec([None, rank], dtypes.int64),
            TensorSpec([None], self._dtype),
            TensorSpec([rank], dtypes.int64),
        ]

    def _to_components(self, value: Any) -> list[Any]:
        if isinstance(value, SparseTensorValue):
            value = SparseTensor.from_value(value)
        return list(_parts(value))

    def _from_components(self, components: Any) -> Any:
        if all(isinstance(part, np.ndarray) for part in components):
            return SparseTensorValue(*components)
        return SparseTensor(*components)

    # As a single tensor, which can be batched: three variants that hold the parts.

    @property
    def _flat_tensor_specs(self) -> list[Any]:
        return [TensorSpec(None, dtypes.variant)]

    def _to_tensor_list(self, value: Any) -> list[Any]:
        parts = _parts(SparseTensor.from_value(value))
        return [raw.SerializeSparse(*parts, out_type=dtypes.variant)]

    def _to_batched_tensor_list(self, value: Any) -> list[Any]:
        dense_shape = TensorShape.of(constant_value_as_shape(value.dense_shape))
        if self._shape.merge_with(dense_shape).ndims == 0:
            raise ValueError("Unbatching a sparse tensor is only supported for rank >= 1")
        return [raw.SerializeManySparse(*_parts(value), out_type=dtypes.variant)]

    def _from_compatible_tensor_list(self, tensor_list: list[Any]) -> SparseTensor:
        result = SparseTensor(*raw.DeserializeSparse(tensor_list[0], dtype=self._dtype))
        result.indices.set_shape([None, self._shape.ndims])
        result.dense_shape.set_shape([self._shape.ndims])
        return result

    def _batch(self, batch_size: int | None) -> SparseTensorSpec:
        return SparseTensorSpec(TensorShape([batch_size]).concatenate(self._shape), self._dtype)

    def _unbatch(self) -> SparseTensorSpec:
        if self._shape.ndims == 0:
            raise ValueError("Unbatching a tensor is only supported for rank >= 1")
        return SparseTensorSpec(self._shape[1:], self._dtype)

    def _to_legacy_output_types(self) -> Any:
        return self._dtype

    def _to_legacy_output_shapes(self) -> Any:
        return self._shape

    def _to_legacy_output_classes(self) -> Any:
        return SparseTensor


structures.register_composite_tensor(SparseTensor)
structures.register_type_spec(SparseTensorSpec)
for _class in (SparseTensor, SparseTensorValue):
    register_type_spec_from_value_converter(_class, SparseTensorSpec.from_value)
