"""Shape rules that many op families share. Shapes are `Dims`: a tuple of int or None, or None for an unknown rank."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from headrace.core.tensor_shape import TensorShape
from headrace.graph.tensor import Dims


def text(dims: Dims) -> str:
    """A shape as TensorFlow prints it: `(2, ?)`, `<unknown>`."""
    return str(TensorShape.of(dims))


def bracketed(dims: Dims) -> str:
    """A shape as TensorFlow's runtime prints it: `[2,?]`, `?`."""
    return "?" if dims is None else f"[{','.join('?' if d is None else str(d) for d in dims)}]"


def brackets(dims: Dims) -> str:
    """A shape as TensorFlow's kernels print it: `[2,?]`, `?`."""
    return "?" if dims is None else f"[{','.join('?' if d is None else str(d) for d in dims)}]"


def unchanged(op: Any, x: Dims, *others: Dims) -> Dims:
    """The output has the shape of the first input."""
    return x


def scalar(op: Any, *inputs: Any) -> Dims:
    """The output is a scalar."""
    return ()


def unknown(op: Any, *inputs: Any) -> list[Dims]:
    """Nothing is known of any output's shape."""
    return [None] * len(op._outputs)


def no_outputs(op: Any, *inputs: Any) -> None:
    """The op has no outputs."""


def from_shape_attr(op: Any, *inputs: Any) -> Dims:
    """The output has the shape of the attr `shape`."""
    return op.attr("shape")._dims


def broadcast(op: Any, a: Dims, b: Dims) -> Dims:
    """The shape that `a` and `b` broadcast to. Raises ValueError: they are not compatible."""
    if a == b and a is not None and None not in a:
        return a
    if a is None or b is None:
        return None
    out: list[int | None] = []
    unequal: tuple[int, int] | None = None
    for i in range(1, max(len(a), len(b)) + 1):
        x = a[-i] if i <= len(a) else 1
        y = b[-i] if i <= len(b) else 1
        if x == 1:
            out.append(y)
        elif y == 1 or x == y:
            out.append(x)
        elif x is None or y is None:
            # A known size other than 1 decides: the unknown one is that, or 1.
            out.append(y if x is None else x)
        else:
            unequal = (x, y)  # TensorFlow names the leftmost
    if unequal is not None:
        raise op.error(
            f"Dimensions must be equal, but are {unequal[0]} and {unequal[1]} for '{op.name}' (op: '{op.type}') with "
            f"input shapes: {bracketed(a)}, {bracketed(b)}."
        )
    return tuple(reversed(out))


def merge(op: Any, a: Dims, b: Dims, what: str = "shapes of one tensor") -> Dims:
    """What two descriptions of one shape say together. Raises ValueError: they contradict each other."""
    if a is None:
        return b
    if b is None or a == b:
        return a
    if len(a) != len(b):
        raise op.error(
            f"Shapes must be equal rank, but are {len(a)} and {len(b)}: {brackets(a)} and {brackets(b)} ({what})."
        )
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        if x is not None and y is not None and x != y:
            raise op.error(
                f"Dimension {i} in both shapes must be equal, but are {x} and {y}. Shapes are {brackets(a)} and "
                f"{brackets(b)} ({what})."
            )
    return tuple(y if x is None else x for x, y in zip(a, b, strict=True))


def merge_all(op: Any, many: Iterable[Dims], what: str = "shapes of one tensor") -> Dims:
    """What several descriptions of one shape say together."""
    merged: Dims = None
    for dims in many:
        merged = merge(op, merged, dims, what)
    return merged


def merge_size(op: Any, x: int | None, y: int | None, what: str = "sizes") -> int | None:
    """What two descriptions of one size say together. Raises ValueError: they differ."""
    if x is None:
        return y
    if y is None or x == y:
        return x
    raise op.error(f"Dimensions must be equal, but are {x} and {y}: {what}.")


def with_rank(op: Any, dims: Dims, rank: int, what: str = "input") -> tuple[int | None, ...]:
    """`dims`, made of unknown sizes where the rank is unknown. Raises ValueError: of another rank."""
    if dims is None:
        return (None,) * rank
    if len(dims) != rank:
        raise op.error(
            f"Shape must be rank {rank} but is rank {len(dims)}: {what} has shape {text(dims)}."
        )
    return dims


def at_least_rank(op: Any, dims: Dims, rank: int, what: str = "input") -> Dims:
    """`dims`. Raises ValueError: its rank is known and lower."""
    if dims is not None and len(dims) < rank:
        raise op.error(
            f"Shape must be at least rank {rank} but is rank {len(dims)}: {what} has shape {text(dims)}."
        )
    return dims


def axis_in_rank(op: Any, axis: int, rank: int, what: str = "axis") -> int:
    """`axis` counted from the front. Raises ValueError: outside [-rank, rank)."""
    if not -rank <= axis < rank:
        raise op.error(
            f"{what} {axis} is out of range: needs a value in [{-rank}, {rank}) for rank {rank}."
        )
    return axis % rank


def element_count(dims: Dims) -> int | None:
    """The number of elements, None where it is not known."""
    if dims is None or None in dims:
        return None
    return math.prod(dims)  # type: ignore[arg-type]


def concatenate(a: Dims, b: Dims) -> Dims:
    """The sizes of `a` followed by those of `b`."""
    return None if a is None or b is None else (*a, *b)


def sizes_of(op: Any, index: int) -> Dims:
    """The shape that input `index` (a vector of sizes) describes, as far as known."""
    from headrace.graph.constant_value import constant_value_as_shape

    return constant_value_as_shape(op._inputs[index])


def is_known(dims: Sequence[int | None] | None) -> bool:
    """Whether every size is known."""
    return dims is not None and None not in dims
