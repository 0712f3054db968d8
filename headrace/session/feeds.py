"""What `run` is given: values for tensors, checked and made arrays of the tensors' types."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.core import dtypes
from headrace.core.tensor_shape import TensorShape
from headrace.graph.graph import Graph
from headrace.graph.tensor import Tensor
from headrace.lowering.jax_adapter import ARRAY
from headrace.session.fetches import conversion_for

_OBJECT = np.dtype(object)


def feed_tensors(graph: Graph, key: Any) -> list[Tensor]:
    """The tensors that a key of a feed dictionary stands for. Raises TypeError: none."""
    entry = conversion_for(key)
    if entry is not None and not isinstance(key, Tensor):
        found = None
        if entry[3] is not None:
            found = entry[3](key)
        elif entry[2] is not None:
            found = [t for t, _ in entry[2](key, key)]
        if found is not None:
            return [graph.as_graph_element(t, allow_operation=False) for t in found]
    try:
        return [graph.as_graph_element(key, allow_operation=False)]
    except Exception as error:
        text = error.args[0] if error.args else error
        raise TypeError(f"Cannot interpret feed_dict key as Tensor: {text}") from None


def expand(graph: Graph, feed_dict: dict[Any, Any]) -> list[tuple[Tensor, Any]]:
    """A feed dictionary as (tensor, value) pairs."""
    pairs: list[tuple[Tensor, Any]] = []
    for key, value in feed_dict.items():
        if key.__class__ is Tensor and key.graph is graph:
            pairs.append((key, value))
            continue
        entry = conversion_for(key)
        if entry is not None and entry[2] is not None:
            pieces = entry[2](key, value)
        else:
            pieces = [(key, value)]
        for piece, part in pieces:
            (tensor,) = feed_tensors(graph, piece)
            pairs.append((tensor, part))
    return pairs


def to_array(tensor: Tensor, value: Any) -> Any:
    """`value` as an array of the type of `tensor`.

    Raises TypeError: a Tensor, or a type that does not fit. ValueError: not convertible, or of another shape.
    """
    kind = tensor._dtype.np_dtype
    # NumPy keeps one object for each of its own types: comparing identities costs a tenth of comparing types.
    if value.__class__ is np.ndarray and kind is not _OBJECT:
        array = value if value.dtype is kind else _convert(tensor, value, kind)
    elif value.__class__ is ARRAY and value.dtype == kind:
        array = value
    else:
        array = _convert(tensor, value, kind)
    dims = tensor._dims
    if dims is not None:
        shape = array.shape
        if shape != dims and not _fits(shape, dims):
            raise ValueError(
                f"Cannot feed value of shape {shape} for Tensor {tensor.name!r}, which has shape "
                f"'{TensorShape.of(dims)}'{_place(tensor)}"
            )
    return array


def _place(tensor: Tensor) -> str:
    where = tensor._op.site()
    return f"\n  defined at {where.filename}:{where.lineno}, in {where.function}" if where else ""


def _fits(shape: tuple[int, ...], dims: tuple[int | None, ...]) -> bool:
    if len(shape) != len(dims):
        return False
    for size, declared in zip(shape, dims):
        if size != declared and declared is not None:
            return False
    return True


def _convert(tensor: Tensor, value: Any, kind: np.dtype) -> Any:
    if isinstance(value, Tensor):
        raise TypeError(
            "The value of a feed cannot be a tf.Tensor object. Acceptable feed values include Python scalars, strings, "
            f"lists, numpy ndarrays, or TensorHandles. Got {value} for {tensor}: run it first, and feed what `run` "
            f"returns.{_place(tensor)}"
        )
    if kind is _OBJECT and tensor._dtype.base_dtype is not dtypes.string:
        return _boxed(value)
    if kind is _OBJECT:
        if isinstance(value, int):
            raise _wrong_type(tensor, value, "")
        return _strings(value)
    try:
        array = np.asarray(value, dtype=kind)
    except (ValueError, TypeError) as error:
        raise type(error)(
            f"Cannot feed {_brief(value)} for Tensor {tensor.name!r}, which has type {tensor._dtype.name} and shape "
            f"'{tensor.shape}': {error}{_place(tensor)}"
        ) from None
    except OverflowError:
        raise _too_large(tensor, value) from None
    if isinstance(value, int) and not isinstance(value, bool) and array.item() != value:
        raise _too_large(tensor, value)
    return array


def _too_large(tensor: Tensor, value: Any) -> TypeError:
    return _wrong_type(
        tensor,
        value,
        " Try explicitly setting the type of the feed tensor to a larger type (e.g. int64).",
    )


def _wrong_type(tensor: Tensor, value: Any, advice: str) -> TypeError:
    return TypeError(
        f"Type of feed value {_brief(value)} with type {type(value)} is not compatible with Tensor type "
        f"{tensor._dtype.as_numpy_dtype} of {tensor.name!r}.{advice}{_place(tensor)}"
    )


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"a {type(value).__name__}"


def _boxed(value: Any) -> np.ndarray:
    if isinstance(value, np.ndarray) and value.dtype == object:
        return value
    box = np.empty((), dtype=object)
    box[()] = value
    return box


def _strings(value: Any) -> np.ndarray:
    array = np.asarray(value) if not isinstance(value, (str, bytes)) else None
    if array is None:
        return _boxed(value.encode() if isinstance(value, str) else value)
    out = np.empty(array.shape, dtype=object)
    source = array if array.dtype == object else np.asarray(value, dtype=object)
    for index in np.ndindex(array.shape):
        item = source[index]
        out[index] = item if isinstance(item, bytes) else str(item).encode()
    return out
