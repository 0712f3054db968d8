"""Descriptions of values: `TypeSpec`, and those of a Tensor and of IndexedSlices.

A value is described by its components (tensors, or values that have components), and a description by a tuple of plain
things (`_serialize`), from which equality, compatibility and the common description of two follow.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import numpy as np

from headrace.core import dtypes, nest, structures
from headrace.core.dtypes import DType
from headrace.core.tensor_shape import TensorShape, as_shape
from headrace.graph.constant_value import constant_value_as_shape
from headrace.graph.convert import convert_to_tensor
from headrace.graph.indexed_slices import IndexedSlices, IndexedSlicesValue
from headrace.graph.tensor import Tensor


class TypeSpec(abc.ABC):
    """Describes the values that a function takes or returns: their class, types and shapes.

    A subclass has `value_type`, `_serialize`, `_component_specs`, `_to_components` and `_from_components`.
    """

    __slots__ = ()

    @property
    @abc.abstractmethod
    def value_type(self) -> Any:
        """The class of the values."""

    def is_compatible_with(self, spec_or_value: Any) -> bool:
        """Whether a value, or every value of a description, can be one of these."""
        other = (
            spec_or_value
            if isinstance(spec_or_value, TypeSpec)
            else type_spec_from_value(spec_or_value)
        )
        return type(self) is type(other) and _is_compatible(self._serialize(), other._serialize())

    def most_specific_compatible_type(self, other: TypeSpec) -> TypeSpec:
        """The narrowest description of the values of both. Raises ValueError: there is none."""
        if type(self) is not type(other):
            raise ValueError(f"No TypeSpec is compatible with both {self} and {other}")
        return self._deserialize(_most_specific(self._serialize(), other._serialize()))

    # ---- components

    @property
    @abc.abstractmethod
    def _component_specs(self) -> Any:
        """The descriptions of the components."""

    @abc.abstractmethod
    def _to_components(self, value: Any) -> Any:
        """The components of `value`; adds no nodes."""

    @abc.abstractmethod
    def _from_components(self, components: Any) -> Any:
        """The value of these components; adds no nodes."""

    def _to_tensor_list(self, value: Any) -> list[Any]:
        return nest.flatten(self._to_components(value), expand_composites=True)

    def _from_tensor_list(self, tensor_list: list[Any]) -> Any:
        """The value of these tensors. Raises ValueError: they do not fit."""
        expected = self._flat_tensor_specs
        if len(tensor_list) != len(expected):
            raise ValueError(
                f"Incompatible input: wrong number of tensors ({len(tensor_list)}, not {len(expected)})"
            )
        for i, (tensor, spec) in enumerate(zip(tensor_list, expected, strict=True)):
            if not type_spec_from_value(tensor).is_compatible_with(spec):
                raise ValueError(
                    f"Incompatible input: tensor {i} ({tensor}) is incompatible with {spec}"
                )
        return self._from_compatible_tensor_list(tensor_list)

    def _from_compatible_tensor_list(self, tensor_list: list[Any]) -> Any:
        return self._from_components(
            nest.pack_sequence_as(self._component_specs, tensor_list, expand_composites=True)
        )

    @property
    def _flat_tensor_specs(self) -> list[Any]:
        return nest.flatten(self._component_specs, expand_composites=True)

    # ---- plain form

    @abc.abstractmethod
    def _serialize(self) -> tuple[Any, ...]:
        """The description as a tuple of numbers, strings, DTypes, TensorShapes, arrays, TypeSpecs, tuples of these."""

    @classmethod
    def _deserialize(cls, serialization: tuple[Any, ...]) -> TypeSpec:
        return cls(*serialization)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and _key(self._serialize()) == _key(other._serialize())  # type: ignore[attr-defined]

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((type(self), _key(self._serialize())))

    def __reduce__(self) -> Any:
        return type(self), self._serialize()

    def __repr__(self) -> str:
        return f"{type(self).__name__}{self._serialize()!r}"

    # ---- the older triple of tf.data: types, shapes, classes

    def _to_legacy_output_types(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__}._to_legacy_output_types()")

    def _to_legacy_output_shapes(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__}._to_legacy_output_shapes()")

    def _to_legacy_output_classes(self) -> Any:
        return self.value_type


class BatchableTypeSpec(TypeSpec):
    """A description whose values can be stacked to a batch, tensor by tensor."""

    __slots__ = ()

    @abc.abstractmethod
    def _batch(self, batch_size: int | None) -> TypeSpec:
        """The description of a batch of so many values (None: any number)."""

    @abc.abstractmethod
    def _unbatch(self) -> TypeSpec:
        """The description of one value of a batch."""

    def _to_batched_tensor_list(self, value: Any) -> list[Any]:
        tensors = self._to_tensor_list(value)
        if any(t.shape.ndims == 0 for t in tensors):
            raise ValueError(f"Value {value} has insufficient rank for batching.")
        return tensors


def _key(value: Any) -> Any:
    """A hashable form of a serialization."""
    if isinstance(value, TensorShape):
        return (TensorShape, value._dims)
    if isinstance(value, dict):
        return tuple((_key(k), _key(value[k])) for k in sorted(value))
    if isinstance(value, tuple):
        return tuple(_key(v) for v in value)
    if isinstance(value, np.ndarray):
        return (np.ndarray, value.shape, value.tobytes())
    if value is None or isinstance(value, (int, float, bool, str, bytes, DType, TypeSpec)):
        return value
    raise ValueError(f"Unsupported value type {type(value).__name__} in a serialized TypeSpec")


def _is_compatible(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(_is_compatible, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_is_compatible(a[k], b[k]) for k in a)
    if isinstance(a, (TypeSpec, TensorShape, DType)):
        return a.is_compatible_with(b)
    return a == b


def _most_specific(a: Any, b: Any) -> Any:
    if type(a) is type(b):
        if isinstance(a, tuple) and len(a) == len(b):
            return tuple(map(_most_specific, a, b))
        if isinstance(a, dict) and a.keys() == b.keys():
            return {k: _most_specific(a[k], b[k]) for k in a}
        if isinstance(a, TensorShape):
            return a.most_specific_compatible_shape(b)
        if isinstance(a, TypeSpec):
            return a.most_specific_compatible_type(b)
        if not isinstance(a, (tuple, dict)) and a == b:
            return a
    raise ValueError(f"Types are not compatible: {a!r} vs {b!r}")


class TensorSpec(BatchableTypeSpec):
    """Describes Tensors: `shape`, `dtype`, and a name to call one by."""

    __slots__ = ("_dtype", "_name", "_shape")

    def __init__(self, shape: Any, dtype: Any = dtypes.float32, name: str | None = None) -> None:
        """shape, dtype: anything that a TensorShape or DType can be made of. Raises TypeError: it cannot."""
        self._shape = TensorShape(shape)
        self._dtype = dtypes.as_dtype(dtype)
        self._name = name

    @classmethod
    def from_spec(cls, spec: Any, name: str | None = None) -> TensorSpec:
        """The same description, under another name where one is given."""
        return cls(spec.shape, spec.dtype, name or spec.name)

    @classmethod
    def from_tensor(cls, tensor: Any, name: str | None = None) -> TensorSpec:
        """The description of `tensor`, by default under the name of its operation. Raises ValueError: not a Tensor."""
        if not isinstance(tensor, Tensor):
            raise ValueError("`tensor` should be a tf.Tensor")
        return TensorSpec(tensor.shape, tensor.dtype, name or tensor.op.name)

    @property
    def shape(self) -> TensorShape:
        """The shape."""
        return self._shape

    @property
    def dtype(self) -> DType:
        """The type of the elements."""
        return self._dtype

    @property
    def name(self) -> str | None:
        """The name, or None."""
        return self._name

    @property
    def value_type(self) -> Any:
        """Tensor."""
        return Tensor

    def is_compatible_with(self, spec_or_tensor: Any) -> bool:
        """Whether a Tensor or TensorSpec has this type and a compatible shape."""
        return (
            isinstance(spec_or_tensor, (TensorSpec, Tensor))
            and self._dtype.is_compatible_with(spec_or_tensor.dtype)
            and self._shape.is_compatible_with(spec_or_tensor.shape)
        )

    def most_specific_compatible_type(self, other: Any) -> TensorSpec:
        """The narrowest TensorSpec of the tensors of both. Raises ValueError: their types differ."""
        if type(self) is not type(other) or self._dtype != other.dtype:
            raise ValueError(f"Types are not compatible: {self!r} vs {other!r}")
        shape = self._shape.most_specific_compatible_shape(other.shape)
        return TensorSpec(shape, self._dtype, self._name if self._name == other.name else None)

    def _serialize(self) -> tuple[Any, ...]:
        return (self._shape, self._dtype, self._name)

    def __hash__(self) -> int:
        return hash((self._shape._dims, self._dtype))

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and _key(self._serialize()) == _key(other._serialize())  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return f"TensorSpec(shape={self._shape}, dtype={self._dtype!r}, name={self._name!r})"

    @property
    def _component_specs(self) -> TensorSpec:
        return self

    def _to_components(self, value: Any) -> Any:
        try:
            tensor = convert_to_tensor(value, self._dtype)
        except (TypeError, ValueError):
            tensor = None
        if tensor is None or not tensor.shape.is_compatible_with(self._shape):
            raise ValueError(
                f"Value {value!r} is not convertible to a tensor with dtype {self._dtype} and shape {self._shape}."
            )
        return tensor

    def _from_components(self, components: Any) -> Any:
        return components

    def _from_compatible_tensor_list(self, tensor_list: list[Any]) -> Any:
        (tensor,) = tensor_list
        tensor.set_shape(self._shape)
        return tensor

    def _batch(self, batch_size: int | None) -> TensorSpec:
        return TensorSpec(TensorShape([batch_size]).concatenate(self._shape), self._dtype)

    def _unbatch(self) -> TensorSpec:
        if self._shape.ndims == 0:
            raise ValueError("Unbatching a tensor is only supported for rank >= 1")
        return TensorSpec(self._shape[1:], self._dtype)

    def _to_legacy_output_types(self) -> DType:
        return self._dtype

    def _to_legacy_output_shapes(self) -> TensorShape:
        return self._shape


class BoundedTensorSpec(TensorSpec):
    """A TensorSpec of tensors whose elements lie between two bounds, which count as inside."""

    __slots__ = ("_maximum", "_minimum")

    def __init__(
        self, shape: Any, dtype: Any, minimum: Any, maximum: Any, name: str | None = None
    ) -> None:
        """minimum, maximum: numbers or arrays that broadcast to `shape`. Raises ValueError: missing, or they do not."""
        super().__init__(shape, dtype, name)
        if minimum is None or maximum is None:
            raise ValueError(
                f"minimum and maximum must be provided; but saw '{minimum}' and '{maximum}'"
            )
        for bound, what in ((minimum, "minimum"), (maximum, "maximum")):
            if not _broadcasts(np.shape(bound), self._shape):
                raise ValueError(
                    f"{what} is not compatible with shape: {np.shape(bound)}, {self._shape}."
                )
        self._minimum = self._bound(minimum)
        self._maximum = self._bound(maximum)

    def _bound(self, value: Any) -> np.ndarray:
        array = np.array(value, self._dtype.as_numpy_dtype)
        array.setflags(write=False)
        return array

    @classmethod
    def from_spec(cls, spec: Any, name: str | None = None) -> BoundedTensorSpec:
        """The same description; without bounds of its own, those of the type."""
        dtype = dtypes.as_dtype(spec.dtype)
        minimum = getattr(spec, "minimum", dtype.min)
        maximum = getattr(spec, "maximum", dtype.max)
        return BoundedTensorSpec(spec.shape, dtype, minimum, maximum, name or spec.name)

    @property
    def minimum(self) -> np.ndarray:
        """The smallest values (read-only)."""
        return self._minimum

    @property
    def maximum(self) -> np.ndarray:
        """The largest values (read-only)."""
        return self._maximum

    def _serialize(self) -> tuple[Any, ...]:
        return (self._shape, self._dtype, self._minimum, self._maximum, self._name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BoundedTensorSpec):
            return False
        bounds = np.allclose(self._minimum, other._minimum) and np.allclose(
            self._maximum, other._maximum
        )
        mine = (self._shape._dims, self._dtype, self._name)
        return bounds and mine == (other._shape._dims, other._dtype, other._name)

    __hash__ = TensorSpec.__hash__

    def __repr__(self) -> str:
        return (
            f"BoundedTensorSpec(shape={self._shape}, dtype={self._dtype!r}, name={self._name!r}, "
            f"minimum={self._minimum!r}, maximum={self._maximum!r})"
        )


def _broadcasts(a: tuple[int, ...], b: TensorShape) -> bool:
    """Whether shapes `a` and `b` broadcast."""
    pairs = zip(reversed(a), reversed(b._dims or ()), strict=False)
    return all(x == 1 or y in (1, None, x) for x, y in pairs)


class IndexedSlicesSpec(TypeSpec):
    """Describes IndexedSlices."""

    __slots__ = (
        "_dense_shape_dtype",
        "_indices_dtype",
        "_indices_shape",
        "_shape",
        "_values_dtype",
    )

    def __init__(
        self,
        shape: Any = None,
        dtype: Any = dtypes.float32,
        indices_dtype: Any = dtypes.int64,
        dense_shape_dtype: Any = None,
        indices_shape: Any = None,
    ) -> None:
        """shape: of the whole. dense_shape_dtype: None where there is no dense shape. indices_shape: how many rows."""
        self._shape = as_shape(shape)
        self._values_dtype = dtypes.as_dtype(dtype)
        self._indices_dtype = dtypes.as_dtype(indices_dtype)
        self._dense_shape_dtype = (
            None if dense_shape_dtype is None else dtypes.as_dtype(dense_shape_dtype)
        )
        self._indices_shape = as_shape(indices_shape).with_rank(1)

    @property
    def value_type(self) -> Any:
        """IndexedSlices."""
        return IndexedSlices

    def _serialize(self) -> tuple[Any, ...]:
        return (
            self._shape,
            self._values_dtype,
            self._indices_dtype,
            self._dense_shape_dtype,
            self._indices_shape,
        )

    @property
    def _component_specs(self) -> tuple[TensorSpec, ...]:
        specs = [
            TensorSpec(self._indices_shape.concatenate(self._shape[1:]), self._values_dtype),
            TensorSpec(self._indices_shape, self._indices_dtype),
        ]
        if self._dense_shape_dtype is not None:
            specs.append(TensorSpec([self._shape.ndims], self._dense_shape_dtype))
        return tuple(specs)

    def _to_components(self, value: Any) -> tuple[Any, ...]:
        parts = (value.values, value.indices)
        return parts if value.dense_shape is None else (*parts, value.dense_shape)

    def _from_components(self, components: Any) -> Any:
        values, indices, *dense_shape = components
        if all(isinstance(part, np.ndarray) for part in components):
            return IndexedSlicesValue(values, indices, dense_shape[0] if dense_shape else None)
        return IndexedSlices(values, indices, *dense_shape)


def _spec_of_indexed_slices(value: IndexedSlices) -> IndexedSlicesSpec:
    indices_shape = value.indices.shape.merge_with(value.values.shape[:1])
    shape = TensorShape([None]).concatenate(value.values.shape[1:])
    dtype = None
    if value.dense_shape is not None:
        dtype = value.dense_shape.dtype
        shape = shape.merge_with(TensorShape.of(constant_value_as_shape(value.dense_shape)))
    return IndexedSlicesSpec(shape, value.dtype, value.indices.dtype, dtype, indices_shape)


IndexedSlices._type_spec = property(_spec_of_indexed_slices)  # type: ignore[attr-defined]
structures.register_composite_tensor(IndexedSlices)
structures.register_type_spec(IndexedSlicesSpec)

_converters: list[tuple[type, Callable[[Any], TypeSpec], bool]] = []


def register_type_spec_from_value_converter(
    type_object: type, converter_fn: Callable[[Any], TypeSpec], allow_subclass: bool = False
) -> None:
    """Makes `type_spec_from_value` describe values of a class (and its subclasses) by `converter_fn(value)`."""
    _converters.append((type_object, converter_fn, allow_subclass))


def type_spec_from_value(value: Any) -> TypeSpec:
    """The description of `value`: of a tensor, what has components, a list of like values, or what is convertible.

    Raises TypeError: there is none.
    """
    spec = _known_spec(value)
    if spec is None:
        try:
            spec = _known_spec(convert_to_tensor(value))
        except (TypeError, ValueError):
            spec = None
    if spec is None:
        raise TypeError(
            f"Could not build a TypeSpec for {value!r} with type {type(value).__name__}"
        )
    return spec


def _known_spec(value: Any) -> TypeSpec | None:
    if isinstance(value, Tensor):
        return TensorSpec(value.shape, value.dtype)
    spec = getattr(value, "_type_spec", None)
    if isinstance(spec, TypeSpec):
        return spec
    if isinstance(value, list) and value:
        specs = [_known_spec(v) for v in value]
        merged = specs[0]
        if isinstance(merged, BatchableTypeSpec):
            try:
                for other in specs[1:]:
                    merged = merged.most_specific_compatible_type(other)  # type: ignore[union-attr,arg-type]
                return merged._batch(len(specs))  # type: ignore[union-attr]
            except (ValueError, TypeError):
                pass  # of several kinds: converted as a whole, below
    for kind, convert, allow_subclass in reversed(_converters):
        if type(value) is kind or (allow_subclass and isinstance(value, kind)):
            return convert(value)
    return None
