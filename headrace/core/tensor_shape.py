"""Static shapes: `Dimension` and `TensorShape`, either of which may be partly or wholly unknown.

A shape is stored as a plain tuple of `int | None` (`None` alone for an unknown rank), because shape
rules run for every node that is made; `Dimension` objects exist only while somebody holds one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tensorboard.compat.proto import tensor_shape_pb2

from headrace.core.dtypes import DType

Dims = tuple[int | None, ...] | None
IntList = list[int | None]

_v2_behavior = False


def _unknown_size(method: str) -> TypeError:
    # Python's words for what TensorFlow returns there, and what to do.
    return TypeError(
        f"{method} returned non-int (type NoneType): Dimension(None) is a size that is known only when the graph runs; "
        "use tf.shape(x)[i], which is a tensor"
    )


def enable_v2_tensorshape() -> None:
    """Makes indexing and iterating a `TensorShape` give `int` or `None` instead of `Dimension`."""
    global _v2_behavior
    _v2_behavior = True


def disable_v2_tensorshape() -> None:
    """Makes indexing and iterating a `TensorShape` give `Dimension` objects, as is the default."""
    global _v2_behavior
    _v2_behavior = False


def dimension_value(dimension: Any) -> int | None:
    """Returns the number in `dimension`, a `Dimension`, an int or None."""
    return dimension._value if isinstance(dimension, Dimension) else dimension


def dimension_at_index(shape: TensorShape, index: int) -> Dimension:
    """Returns the `Dimension` of `shape` at `index`, an unknown one where the rank is unknown."""
    return Dimension(None) if shape._dims is None else Dimension(shape._dims[index])


def _as_dim(value: Any) -> int | None:
    """Returns `value` as a length or None; raises TypeError or ValueError if it can be neither."""
    if value is None:
        return None
    if value.__class__ is int:
        number = value
    elif isinstance(value, Dimension):
        return value._value
    elif isinstance(value, DType):
        raise TypeError(f"Cannot convert {value} to Dimension")
    else:
        number = int(value)
        if not isinstance(value, str | bytes) and number != value:
            raise ValueError(f"Ambiguous dimension: {value}")
    if number < 0:
        raise ValueError(f"Dimension {number} must be >= 0")
    return number


class Dimension:
    """One length of a shape: a number, or unknown (None).

    Arithmetic with an unknown length gives an unknown one, comparison with it gives None.
    Raises TypeError or ValueError: `value` is not a whole number that is at least zero.
    """

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = _as_dim(value)

    @property
    def value(self) -> int | None:
        """The number, or None where it is unknown."""
        return self._value

    def __repr__(self) -> str:
        return f"Dimension({self._value!r})"

    def __str__(self) -> str:
        return "?" if self._value is None else str(self._value)

    def __int__(self) -> int:
        if self._value is None:
            raise _unknown_size("__int__")
        return self._value

    def __index__(self) -> int:
        if self._value is None:
            raise _unknown_size("__index__")
        return self._value

    def is_compatible_with(self, other: Any) -> bool:
        """Returns whether both can be the same number."""
        try:
            other = _as_dim(other)
        except (TypeError, ValueError):
            return NotImplemented
        return self._value is None or other is None or self._value == other

    def assert_is_compatible_with(self, other: Any) -> None:
        """Raises ValueError unless both can be the same number."""
        if not self.is_compatible_with(other):
            raise ValueError(f"Dimensions {self} and {other} are not compatible")

    def merge_with(self, other: Any) -> Dimension:
        """Returns what both know together; raises ValueError if they disagree."""
        try:
            other = as_dimension(other)
        except (TypeError, ValueError):
            return NotImplemented
        self.assert_is_compatible_with(other)
        return Dimension(other._value if self._value is None else self._value)

    def __eq__(self, other: object) -> Any:
        try:
            number = _as_dim(other)
        except (TypeError, ValueError):
            return NotImplemented
        if self._value is None or number is None:
            return None
        return self._value == number

    def __ne__(self, other: object) -> Any:
        try:
            number = _as_dim(other)
        except (TypeError, ValueError):
            return NotImplemented
        if self._value is None or number is None:
            return None
        return self._value != number

    __hash__ = None  # pyright: ignore[reportAssignmentType] (equality is not transitive)

    def __lt__(self, other: Any) -> Any:
        number = _as_dim(other)
        return None if self._value is None or number is None else self._value < number

    def __le__(self, other: Any) -> Any:
        number = _as_dim(other)
        return None if self._value is None or number is None else self._value <= number

    def __gt__(self, other: Any) -> Any:
        number = _as_dim(other)
        return None if self._value is None or number is None else self._value > number

    def __ge__(self, other: Any) -> Any:
        number = _as_dim(other)
        return None if self._value is None or number is None else self._value >= number

    def __add__(self, other: Any) -> Dimension:
        try:
            number = _as_dim(other)
        except (TypeError, ValueError):
            return NotImplemented
        return Dimension(None if self._value is None or number is None else self._value + number)

    def __radd__(self, other: Any) -> Dimension:
        return self + other

    def __sub__(self, other: Any) -> Dimension:
        try:
            number = _as_dim(other)
        except (TypeError, ValueError):
            return NotImplemented
        return Dimension(None if self._value is None or number is None else self._value - number)

    def __rsub__(self, other: Any) -> Dimension:
        number = _as_dim(other)
        return Dimension(None if self._value is None or number is None else number - self._value)

    def __mul__(self, other: Any) -> Dimension:
        try:
            number = _as_dim(other)
        except (TypeError, ValueError):
            return NotImplemented
        return Dimension(None if self._value is None or number is None else self._value * number)

    def __rmul__(self, other: Any) -> Dimension:
        return self * other

    def __floordiv__(self, other: Any) -> Dimension:
        try:
            number = _as_dim(other)
        except (TypeError, ValueError):
            return NotImplemented
        return Dimension(None if self._value is None or number is None else self._value // number)

    def __rfloordiv__(self, other: Any) -> Dimension:
        number = _as_dim(other)
        return Dimension(None if self._value is None or number is None else number // self._value)

    def __mod__(self, other: Any) -> Dimension:
        number = _as_dim(other)
        return Dimension(None if self._value is None or number is None else self._value % number)

    def __rmod__(self, other: Any) -> Dimension:
        return as_dimension(other) % self

    # `/` would give a fraction, which is no length.
    def __truediv__(self, other: Any) -> Any:
        raise TypeError(
            f"unsupported operand type(s) for /: 'Dimension' and '{type(other).__name__}', "
            "please use // instead"
        )

    def __rtruediv__(self, other: Any) -> Any:
        raise TypeError(
            f"unsupported operand type(s) for /: '{type(other).__name__}' and 'Dimension', "
            "please use // instead"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return Dimension, (self._value,)


def as_dimension(value: Any) -> Dimension:
    """Returns `value` as a `Dimension`."""
    return value if isinstance(value, Dimension) else Dimension(value)


class TensorShape:
    """A shape: fully known, of known rank with unknown lengths, or of unknown rank.

    dims: None for an unknown rank; a shape, a `TensorShapeProto`, one length, or an iterable of
    lengths, each an int, a `Dimension` or None.
    Raises TypeError or ValueError: a length is not a whole number that is at least zero.
    """

    __slots__ = ("__weakref__", "_dims")

    _dims: Dims

    def __init__(self, dims: Any) -> None:
        if dims is None:
            self._dims = None
        elif dims.__class__ is TensorShape:
            self._dims = dims._dims
        elif isinstance(dims, str | bytes):
            raise TypeError(
                "A string has ambiguous TensorShape, please wrap in a list or convert to an int: "
                f"{dims}"
            )
        elif isinstance(dims, TensorShape):
            self._dims = dims._dims
        elif _is_proto(dims):
            # -1 stands for an unknown length.
            self._dims = (
                None
                if dims.unknown_rank
                else tuple(None if d.size == -1 else _as_dim(d.size) for d in dims.dim)
            )
        else:
            try:
                iterator = iter(dims)
            except TypeError:
                self._dims = (_as_dim(dims),)
            else:
                self._dims = tuple([_as_dim(d) for d in iterator])

    @classmethod
    def of(cls, dims: Dims) -> TensorShape:
        """Makes a shape of a tuple known to hold only ints >= 0 and None; checks nothing."""
        shape = _new(TensorShape)
        shape._dims = dims
        return shape

    @property
    def tuple(self) -> Dims:
        """The lengths as a tuple of int and None, or None where the rank is unknown."""
        return self._dims

    @property
    def rank(self) -> int | None:
        """The number of dimensions, or None where it is unknown."""
        return None if self._dims is None else len(self._dims)

    @property
    def ndims(self) -> int | None:
        """The same as `rank`."""
        return None if self._dims is None else len(self._dims)

    @property
    def dims(self) -> list[Dimension] | None:
        """The lengths as a list of `Dimension`, or None where the rank is unknown."""
        return None if self._dims is None else [Dimension(d) for d in self._dims]

    def __repr__(self) -> str:
        if _v2_behavior:
            return f"TensorShape({None if self._dims is None else list(self._dims)!r})"
        return f"TensorShape({self.dims!r})"

    def __str__(self) -> str:
        if self._dims is None:
            return "<unknown>"
        unknown = "None" if _v2_behavior else "?"
        words = [unknown if d is None else str(d) for d in self._dims]
        return f"({words[0]},)" if len(words) == 1 else f"({', '.join(words)})"

    def __len__(self) -> int:
        if self._dims is None:
            raise ValueError("Cannot take the length of shape with unknown rank.")
        return len(self._dims)

    def __bool__(self) -> bool:
        return self._dims is not None

    def __iter__(self) -> Iterator[Any]:
        if self._dims is None:
            raise ValueError("Cannot iterate over a shape with unknown rank.")
        return iter(self._dims if _v2_behavior else [Dimension(d) for d in self._dims])

    def __getitem__(self, key: Any) -> Any:
        dims = self._dims
        if isinstance(key, slice):
            return TensorShape.of(dims[key]) if dims is not None else _slice_of_unknown(key)
        value = None if dims is None else dims[key]
        return value if _v2_behavior else Dimension(value)

    def num_elements(self) -> int | None:
        """Returns the product of the lengths, or None unless all are known."""
        if self._dims is None:
            return None
        product = 1
        for d in self._dims:
            if d is None:
                return None
            product *= d
        return product

    def merge_with(self, other: Any) -> TensorShape:
        """Returns what both shapes know together; raises ValueError if they disagree."""
        other = as_shape(other)
        x, y = self._dims, other._dims
        if x is None:
            return other
        if y is None or x == y:
            return TensorShape.of(x)
        if len(x) == len(y):
            merged = tuple([b if a is None else a for a, b in zip(x, y, strict=True)])
            if all(b is None or a == b for a, b in zip(merged, y, strict=True)):
                return TensorShape.of(merged)
        raise ValueError(f"Shapes {self} and {other} are not compatible")

    def concatenate(self, other: Any) -> TensorShape:
        """Returns this shape followed by `other`; of unknown rank if either is."""
        other = as_shape(other)
        if self._dims is None or other._dims is None:
            return TensorShape.of(None)
        return TensorShape.of(self._dims + other._dims)

    __concat__ = concatenate

    def __add__(self, other: Any) -> TensorShape:
        return self.concatenate(other)

    def __radd__(self, other: Any) -> TensorShape:
        return as_shape(other).concatenate(self)

    def assert_same_rank(self, other: Any) -> None:
        """Raises ValueError if both ranks are known and differ."""
        other = as_shape(other)
        x, y = self._dims, other._dims
        if x is not None and y is not None and len(x) != len(y):
            raise ValueError(f"Shapes {self} and {other} must have the same rank")

    def assert_has_rank(self, rank: int) -> None:
        """Raises ValueError if the rank is known and not `rank`."""
        if self._dims is not None and len(self._dims) != rank:
            raise ValueError(f"Shape {self} must have rank {rank}")

    def with_rank(self, rank: int) -> TensorShape:
        """Returns this shape, given the rank `rank`; raises ValueError if it has another."""
        if self._dims is None:
            return unknown_shape(rank)
        if len(self._dims) != rank:
            raise ValueError(f"Shape {self} must have rank {rank}")
        return self

    def with_rank_at_least(self, rank: int) -> TensorShape:
        """Returns this shape; raises ValueError if its rank is known and below `rank`."""
        if self._dims is not None and len(self._dims) < rank:
            raise ValueError(f"Shape {self} must have rank at least {rank}")
        return self

    def with_rank_at_most(self, rank: int) -> TensorShape:
        """Returns this shape; raises ValueError if its rank is known and above `rank`."""
        if self._dims is not None and len(self._dims) > rank:
            raise ValueError(f"Shape {self} must have rank at most {rank}")
        return self

    def is_compatible_with(self, other: Any) -> bool:
        """Returns whether some fully known shape fits both."""
        x, y = self._dims, as_shape(other)._dims
        if x is None or y is None or x == y:
            return True
        if len(x) != len(y):
            return False
        return all(a is None or b is None or a == b for a, b in zip(x, y, strict=True))

    def assert_is_compatible_with(self, other: Any) -> None:
        """Raises ValueError unless some fully known shape fits both."""
        if not self.is_compatible_with(other):
            raise ValueError(f"Shapes {self} and {other} are incompatible")

    def most_specific_compatible_shape(self, other: Any) -> TensorShape:
        """Returns the narrowest shape true of both: what they agree on, the rest unknown."""
        x, y = self._dims, as_shape(other)._dims
        if x is None or y is None or len(x) != len(y):
            return TensorShape.of(None)
        return TensorShape.of(tuple([a if a == b else None for a, b in zip(x, y, strict=True)]))

    def is_fully_defined(self) -> bool:
        """Returns whether the rank and every length are known."""
        return self._dims is not None and None not in self._dims

    def assert_is_fully_defined(self) -> None:
        """Raises ValueError unless the rank and every length are known."""
        if not self.is_fully_defined():
            raise ValueError(f"Shape {self} is not fully defined")

    def as_list(self) -> IntList:
        """Returns the lengths as int and None; raises ValueError where the rank is unknown."""
        if self._dims is None:
            raise ValueError("as_list() is not defined on an unknown TensorShape.")
        return list(self._dims)

    def as_proto(self) -> tensor_shape_pb2.TensorShapeProto:
        """Returns the shape as a `TensorShapeProto`, with -1 for an unknown length."""
        if self._dims is None:
            return tensor_shape_pb2.TensorShapeProto(unknown_rank=True)
        return tensor_shape_pb2.TensorShapeProto(
            dim=[
                tensor_shape_pb2.TensorShapeProto.Dim(size=-1 if d is None else d)
                for d in self._dims
            ]
        )

    def __eq__(self, other: object) -> bool:
        try:
            y = as_shape(other)._dims
        except TypeError:
            return NotImplemented
        # As in TensorFlow, an unknown length equals nothing, except in the very same shape.
        x = self._dims
        return x is y or (x == y and x is not None and None not in x)

    def __ne__(self, other: object) -> bool:
        try:
            y = as_shape(other)._dims
        except TypeError:
            return NotImplemented
        x = self._dims
        if x is None or y is None:
            raise ValueError("The inequality of unknown TensorShapes is undefined.")
        return x is not y and (x != y or None in x)

    __hash__ = None  # pyright: ignore[reportAssignmentType] (equality is not transitive)

    def __reduce__(self) -> Any:
        return TensorShape, (self.dims,)


_new = object.__new__


def _is_proto(value: Any) -> bool:
    """Returns whether `value` is a `TensorShapeProto`, of whichever compiled package."""
    descriptor = getattr(type(value), "DESCRIPTOR", None)
    return descriptor is not None and getattr(descriptor, "name", None) == "TensorShapeProto"


def _slice_of_unknown(key: slice) -> TensorShape:
    """Returns what is known of a slice of a shape of unknown rank."""
    start = key.start if key.start is not None else 0
    if key.step is not None:
        raise ValueError("Steps are not yet handled")
    if key.stop is None or start < 0 or key.stop < 0:
        return TensorShape.of(None)
    return unknown_shape(key.stop - start)


def as_shape(shape: Any) -> TensorShape:
    """Returns `shape` as a `TensorShape`."""
    return shape if isinstance(shape, TensorShape) else TensorShape(shape)


def as_dims(shape: Any) -> Dims:
    """Returns `shape` as a tuple of int and None, or None where the rank is unknown."""
    return shape._dims if isinstance(shape, TensorShape) else TensorShape(shape)._dims


def unknown_shape(rank: int | None = None, **kwargs: Any) -> TensorShape:
    """Returns a shape of unknown lengths, and of unknown rank where `rank` is None.

    kwargs: `ndims`, an older name of `rank`.  Raises TypeError: any other name.
    """
    if rank is None and "ndims" in kwargs:
        rank = kwargs.pop("ndims")
    if kwargs:
        raise TypeError(f"Unknown argument: {kwargs}")
    return TensorShape.of(None if rank is None else (None,) * rank)


def scalar() -> TensorShape:
    """Returns the shape of a scalar."""
    return TensorShape.of(())


def vector(length: Any) -> TensorShape:
    """Returns the shape of a vector of the given length (None where it is unknown)."""
    return TensorShape([length])


def matrix(rows: Any, cols: Any) -> TensorShape:
    """Returns the shape of a matrix of the given lengths (None where one is unknown)."""
    return TensorShape([rows, cols])
