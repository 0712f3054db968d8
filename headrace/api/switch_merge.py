"""Switch and Merge nodes as programs build them that do without `tf.cond` (TensorFlow's private `control_flow_ops`)."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

from headrace.core import dtypes
from headrace.graph import raw
from headrace.graph.convert import convert_to_tensor
from headrace.graph.indexed_slices import IndexedSlices
from headrace.graph.tensor import Tensor

Merged = collections.namedtuple("Merge", "output value_index")


def switch(data: Any, pred: Any, dtype: Any = None, name: str | None = None) -> tuple[Any, Any]:
    """`data` on two sides: (where `pred` is false, where it is true). The other one is dead, and what follows from it.

    data: a tensor, IndexedSlices. pred: a scalar bool.
    """
    if isinstance(data, IndexedSlices):
        parts = [data.values, data.indices, data.dense_shape]
        sides = [(None, None) if p is None else switch(p, pred, name=name) for p in parts]
        false, true = (IndexedSlices(*(s[side] for s in sides)) for side in (0, 1))
        return false, true
    data = convert_to_tensor(data, dtype, name="data")
    return tuple(raw.Switch(data, convert_to_tensor(pred, dtypes.bool), name=name))


def ref_switch(
    data: Any, pred: Any, dtype: Any = None, name: str | None = None
) -> tuple[Tensor, Tensor]:
    """As `switch`, for a reference to a variable."""
    data = getattr(data, "_ref", lambda: data)()
    return tuple(raw.RefSwitch(data, convert_to_tensor(pred, dtypes.bool), name=name))


def merge(inputs: Sequence[Any], name: str | None = None) -> Any:
    """(the one of `inputs` that is not dead, which it is); references stay references where all of them are.

    inputs: tensors, or IndexedSlices. Raises ValueError: one is None.
    """
    if any(i is None for i in inputs):
        raise ValueError(f"At least one of the merge inputs is None: {inputs}")
    if any(isinstance(i, IndexedSlices) for i in inputs):
        values, index = merge([i.values for i in inputs], name)
        indices = merge([i.indices for i in inputs])[0]
        shapes = [i.dense_shape for i in inputs]
        shape = None if None in shapes else merge(shapes)[0]
        return Merged(IndexedSlices(values, indices, shape), index)
    tensors = [convert_to_tensor(i) if not isinstance(i, Tensor) else i for i in inputs]
    if all(t._dtype.is_ref_dtype for t in tensors):
        return Merged(*raw.RefMerge(tensors, name=name))
    return Merged(*raw.Merge(tensors, name=name))
