"""What a resource handle refers to: the type and the static shape of the variable behind it."""

from __future__ import annotations

from headrace.core import dtypes
from headrace.core.dtypes import DType
from headrace.graph.op_def import Effect
from headrace.graph.tensor import Dims, Tensor

HandleData = tuple[DType, Dims]


def handle_data(tensor: Tensor) -> HandleData | None:
    """The type and shape of the variable behind a handle; None where they are not known.

    Follows the handle through what passes it on (Identity, the capture by a function) to the op that made it.
    """
    while True:
        extra = tensor._extra
        if extra is not None and "_captured_from" in extra:
            tensor = extra["_captured_from"]
            continue
        op = tensor._op
        attrs = op._attrs
        if op._definition.effects & Effect.HANDLE:
            if "dtype" in attrs and "shape" in attrs:
                return attrs["dtype"], attrs["shape"]._dims
            return None
        source = next((t for t in op._inputs if t._dtype is dtypes.resource), None)
        if source is None:
            return None
        tensor = source


def handle_dims(tensor: Tensor) -> Dims:
    """The static shape of the variable behind a handle."""
    data = handle_data(tensor)
    return None if data is None else data[1]
