"""NumPy rules on a step's values: which operations are small enough for them, what they take, what they give."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from headrace.core import dtypes
from headrace.graph.op_def import Effect
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.lowering.jax_adapter import ARRAY
from headrace.lowering.row_updates import updated
from headrace.lowering.state import Slot
from headrace.lowering.tensor_list import DeviceList, HostList, to_host

# Above this many elements a NumPy rule loses to a compiled kernel.
MOST_ELEMENTS = 1 << 16
# In first runs, and for shapes that may not come again: above this many it takes longer than compiling a kernel does (20 ms).
MOST_ELEMENTS_ONCE = 1 << 24
# NumPy adds up in another order than XLA: what is interpreted each time, between programs, has a kernel add up so many.
MOST_SUMMED = 1 << 12
# NumPy draws random numbers within a few times of a kernel's speed, and each such kernel takes tenths of a second to compile.
_MOST_RANDOM_ELEMENTS = 1 << 24


def to_numpy(argument: Any) -> Any:
    """An argument of a NumPy rule: arrays of a device, lists and slots as NumPy sees them, of the same shape and dtype."""
    if argument.__class__ is list:
        return [to_numpy(a) for a in argument]
    if argument.__class__ is ARRAY:
        return np.asarray(argument)
    if isinstance(argument, Slot):
        return _HostSlot(argument)
    if isinstance(argument, DeviceList):
        return to_host(argument)
    return argument


class _HostSlot(Slot):
    """A slot whose value the NumPy rules see as a NumPy array."""

    __slots__ = ("_slot",)

    def __init__(self, slot: Slot) -> None:
        self._slot = slot
        self.key = slot.key

    def read(self) -> Any:
        value = self._slot.read()
        return np.asarray(value) if value.__class__ is ARRAY else value

    def write(self, value: Any) -> None:
        self._slot.write(value)

    def write_rows(self, kind: str, where: Any, updates: Any) -> None:
        self._slot.write(updated(kind, self.read(), where, updates))

    @property
    def initialized(self) -> bool:
        return self._slot.initialized


def declared(op: Operation, results: Any) -> Any:
    """Makes arrays of the results of a NumPy rule, of the declared types."""
    if results.__class__ is tuple or results.__class__ is list:
        return [_declared_array(r, t) for r, t in zip(results, op._outputs, strict=True)]
    return _declared_array(results, op._outputs[0]) if op._outputs else ()


def _declared_array(value: Any, tensor: Tensor) -> Any:
    if isinstance(value, Slot):
        return value._slot if isinstance(value, _HostSlot) else value
    kind = tensor._dtype.base_dtype
    if kind is dtypes.resource or kind is dtypes.variant:
        return value
    if isinstance(value, np.ndarray) and value.dtype == kind.np_dtype:
        return value
    return np.asarray(value, dtype=kind.np_dtype)


def is_small(op: Operation, arguments: list[Any], most: int = MOST_ELEMENTS) -> bool:
    """Whether the NumPy rule of `op` is to compute `arguments`, of up to `most` elements, and not a compiled kernel."""
    total = 0
    for argument in arguments:
        for value in argument if argument.__class__ is list else (argument,):
            if value.__class__ is HostList or value.__class__ is DeviceList:
                return True
            if not isinstance(value, Slot):
                total += getattr(value, "size", 1)
    for tensor in op._outputs:
        if tensor._dtype is dtypes.variant:
            return True  # a list: only the references to its elements are copied
        dims = tensor._dims
        if dims is not None and None not in dims:
            total += math.prod(dims)  # type: ignore[arg-type]
    if op._definition.is_sum and most == MOST_ELEMENTS and total > MOST_SUMMED:
        return False
    if op._definition.effects & Effect.RANDOM:
        return total <= _MOST_RANDOM_ELEMENTS
    return total <= (min(most, MOST_ELEMENTS) if op._definition.host_is_slow else most)
