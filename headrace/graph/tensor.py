"""A tensor of the graph: one output of one operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headrace.core import dtypes
from headrace.core.dtypes import DType
from headrace.core.reference import Reference
from headrace.core.tensor_shape import TensorShape, as_shape

if TYPE_CHECKING:
    from headrace.graph.graph import Graph
    from headrace.graph.operation import Operation

Dims = tuple[int | None, ...] | None
"""A static shape inside the system: sizes, None where a size is unknown; None for an unknown rank."""


class Tensor:
    """The symbolic handle of one output of an `Operation`: its type, its static shape, who consumes it.

    Operators (`a + b`, `a[1:]`) are attached by the api room through `override_operator`.
    """

    __slots__ = ("__weakref__", "_consumers", "_dims", "_dtype", "_extra", "_index", "_op")

    # NumPy must leave `ndarray + tensor` to us.
    __array_priority__ = 100

    def __init__(self, op: Operation, value_index: int, dtype: Any) -> None:
        self._op = op
        self._index = value_index
        self._dtype = dtype if dtype.__class__ is DType else dtypes.as_dtype(dtype)
        self._dims: Dims = None
        self._consumers: list[Operation] = []
        self._extra: dict[str, Any] | None = None

    # ---- what it is

    @property
    def op(self) -> Operation:
        """The operation that produces this tensor."""
        return self._op

    @property
    def value_index(self) -> int:
        """Which output of `op` this is."""
        return self._index

    @property
    def dtype(self) -> DType:
        """The type of the elements; a `_ref` type where the tensor is a reference to a variable."""
        return self._dtype

    @property
    def graph(self) -> Graph:
        """The graph that holds this tensor."""
        return self._op._graph

    @property
    def name(self) -> str:
        """`op name:index`."""
        return f"{self._op._name}:{self._index}"

    @property
    def device(self) -> str:
        """The device asked for by the producing operation."""
        return self._op.device

    # ---- static shape

    @property
    def shape(self) -> TensorShape:
        """What is known of the shape while the graph is built."""
        return TensorShape.of(self._dims)

    def get_shape(self) -> TensorShape:
        """The same as `shape`."""
        return TensorShape.of(self._dims)

    def set_shape(self, shape: Any) -> None:
        """Adds knowledge of the shape. Raises ValueError: it contradicts what is known."""
        other = as_shape(shape)
        try:
            merged = TensorShape.of(self._dims).merge_with(other)
        except ValueError as error:
            raise ValueError(
                f"Tensor {self.name!r} of shape {TensorShape.of(self._dims)} cannot be set to shape {other}: {error}"
            ) from None
        self._dims = merged._dims
        self._op._graph._version_of_shapes += 1

    @property
    def _shape(self) -> TensorShape:
        return TensorShape.of(self._dims)

    def _shape_tuple(self) -> Dims:
        return self._dims

    def _shape_as_list(self) -> list[int | None] | None:
        return None if self._dims is None else list(self._dims)

    def _rank(self) -> int | None:
        return None if self._dims is None else len(self._dims)

    # ---- its place in the graph

    def consumers(self) -> list[Operation]:
        """The operations that take this tensor as an input; one that takes it twice is there twice."""
        return list(self._consumers)

    def experimental_ref(self) -> Reference:
        """A key for sets and dictionaries that stands for this very tensor; `deref()` gives it back."""
        return Reference(self)

    def eval(self, feed_dict: Any = None, session: Any = None) -> Any:
        """The value of this tensor in `session` or in the default session."""
        from headrace.graph.default import session_for

        return session_for(session, self.graph, f"evaluate tensor {self.name!r}").run(
            self, feed_dict
        )

    def _as_node_def_input(self) -> str:
        return self._op._name if self._index == 0 else f"{self._op._name}:{self._index}"

    # Attributes that libraries hang on tensors (`_keras_history`, `_uses_learning_phase`).
    def __getattr__(self, name: str) -> Any:
        extra = object.__getattribute__(self, "_extra")
        if extra is not None and name in extra:
            return extra[name]
        raise AttributeError(f"'Tensor' object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        try:
            object.__setattr__(self, name, value)
        except AttributeError:
            if isinstance(getattr(type(self), name, None), property):
                raise
            if self._extra is None:
                object.__setattr__(self, "_extra", {})
            self._extra[name] = value  # type: ignore[index]

    # ---- Python's protocols

    # Equality and hash are object's own: a tensor equals itself, and is a cheap key of dictionaries.

    def __len__(self) -> int:
        raise TypeError(
            f"len is not well defined for symbolic Tensors. ({self.name}) Please call `x.shape` rather than `len(x)`: "
            f"its shape is {TensorShape.of(self._dims)}.{self._op._site_line()}"
        )

    def __bool__(self) -> bool:
        raise TypeError(
            "Using a `tf.Tensor` as a Python `bool` is not allowed. "
            f"{self!r} has no value while the graph is built: use `if t is not None:` to test whether it is defined, "
            f"and `tf.cond` to compute one thing or another by its value.{self._op._site_line()}"
        )

    def __iter__(self) -> Any:
        raise TypeError(
            "iterating over `tf.Tensor` is not allowed while the graph is built: Tensor objects are only iterable when "
            f"eager execution is enabled. {self!r} has no value yet: use tf.unstack, or "
            f"tf.map_fn.{self._op._site_line()}"
        )

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise NotImplementedError(
            f"Cannot convert a symbolic Tensor ({self.name}) to a numpy array: it has no value while the "
            f"graph is built. "
            f"Use TensorFlow's functions on it, or the array that `session.run` returns.{self._op._site_line()}"
        )

    def __copy__(self) -> Tensor:
        return self

    def __repr__(self) -> str:
        return (
            f"<tf.Tensor '{self.name}' shape={TensorShape.of(self._dims)} dtype={self._dtype.name}>"
        )

    def __str__(self) -> str:
        # As in TensorFlow, nothing is said of a shape of which nothing is known.
        shape = f", shape={TensorShape.of(self._dims)}" if self._dims is not None else ""
        device = f", device={self.device}" if self.device else ""
        return f'Tensor("{self.name}"{shape}, dtype={self._dtype.name}{device})'

    @staticmethod
    def _override_operator(operator: str, function: Callable[..., Any]) -> None:
        override_operator(operator, function)


OVERLOADABLE = frozenset(
    "__add__ __radd__ __sub__ __rsub__ __mul__ __rmul__ __div__ __rdiv__ __truediv__ __rtruediv__ __floordiv__ "
    "__rfloordiv__ __mod__ __rmod__ __lt__ __le__ __gt__ __ge__ __ne__ __eq__ __and__ __rand__ __or__ __ror__ "
    "__xor__ __rxor__ __getitem__ __pow__ __rpow__ __invert__ __neg__ __abs__ __matmul__ __rmatmul__".split()
)
Tensor.OVERLOADABLE_OPERATORS = OVERLOADABLE  # type: ignore[attr-defined]


def override_operator(operator: str, function: Callable[..., Any]) -> None:
    """Makes `function` the method `operator` of Tensor. Raises ValueError: not an operator, or taken."""
    if operator not in OVERLOADABLE:
        raise ValueError(f"Overriding {operator} is disallowed")
    setattr(Tensor, operator, function)
