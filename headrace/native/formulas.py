"""Elementwise arithmetic on NumPy arrays in one pass over memory, shared between threads.

NumPy makes an array of each step of a formula. Here the formula is applied to stand-ins that record it, and what they
recorded runs block by block. Only what NumPy computes to the same bits is covered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from headrace.native.library import available, kernels
from headrace.native.loops.body import NotCovered
from headrace.native.loops.elementwise import WORD, Step, View, bits_of, encode

# With fewer elements recording costs more than NumPy takes.
_LEAST_ELEMENTS = 1 << 16

_FLOAT, _TRUTH = np.dtype(np.float32), np.dtype(np.bool_)
_ARITHMETIC = {
    np.add: "add",
    np.subtract: "sub",
    np.multiply: "mul",
    np.divide: "div",
    np.maximum: "max",
    np.minimum: "min",
    np.negative: "neg",
    np.absolute: "abs",
    np.sign: "sign",
    np.sqrt: "sqrt",
}
_COMPARISONS = {
    np.less: "lt",
    np.less_equal: "le",
    np.greater: "gt",
    np.greater_equal: "ge",
    np.equal: "eq",
    np.not_equal: "ne",
}


def fused(
    formula: Callable[[list[Any]], Sequence[Any]], arrays: Sequence[np.ndarray]
) -> list[np.ndarray] | None:
    """What `formula`, in NumPy's functions and operators, gives of `arrays`; None where NumPy had better compute it.

    arrays: of one shape and float32, else None is the answer. formula: gets them in this order; of other values only
    numbers may be used with them. It is called again by the caller where the answer is None.
    Returns new arrays of that shape and type.
    """
    first = arrays[0]
    if first.size < _LEAST_ELEMENTS or not available():
        return None
    if any(a.dtype != _FLOAT or a.shape != first.shape for a in arrays):
        return None
    recording = _Recording(first.shape, len(arrays))
    try:
        results = formula(list(recording.inputs))
        code = recording.code(results)
    except NotCovered:
        return None
    made = [np.empty(first.shape, _FLOAT) for _ in results]
    held = [*map(np.ascontiguousarray, arrays), *made]
    addresses = np.array([a.ctypes.data for a in held], np.int64)
    done = kernels().headrace_host_elementwise(code.ctypes.data, code.size, addresses.ctypes.data)
    return made if done else None


class _Recording:
    """The steps of a formula."""

    def __init__(self, shape: tuple[int, ...], count: int) -> None:
        self.shape = shape
        self._steps: list[Step] = []
        self._constants: dict[int, int] = {}
        self._by_bits: dict[int, _Recorded] = {}
        self._numbers = count
        self._loaded: set[int] = set()
        self.inputs = [_Recorded(self, number, _FLOAT) for number in range(count)]

    def code(self, results: Sequence[Any]) -> np.ndarray:
        """The program that makes `results`, in arrays behind the inputs."""
        for number, result in enumerate(results):
            value = self._operand(result, _FLOAT)
            self._steps.append(Step("store", None, (value,), _view(len(self.inputs) + number)))
        size = int(np.prod(self.shape, dtype=np.int64))
        return np.array(encode(1, size, self._steps, self._constants), np.int64)

    def computed(self, op: str, dtype: np.dtype, inputs: Sequence[Any], kinds: Any) -> _Recorded:
        """The result, of type `dtype`, of one more step. kinds: the types that its operands must have."""
        operands = tuple(self._operand(i, kind) for i, kind in zip(inputs, kinds, strict=True))
        result = self._new(dtype)
        self._steps.append(Step(op, result.number, operands))
        return result

    def _operand(self, value: Any, kind: np.dtype) -> int:
        if not isinstance(value, _Recorded):
            value = self._constant(value)
        if value.dtype != kind or value.recording is not self:
            raise NotCovered("values of different types")
        if value.number < len(self.inputs) and value.number not in self._loaded:
            self._loaded.add(value.number)
            self._steps.append(Step("load", value.number, (), _view(value.number)))
        return value.number

    def _constant(self, value: Any) -> _Recorded:
        # Python's numbers take the type of the array, NumPy's have one.
        plain = type(value) in (int, float)
        if not plain and (np.shape(value) != () or getattr(value, "dtype", None) != _FLOAT):
            raise NotCovered("an array, or a number of another type")
        bits = bits_of(value, _FLOAT)
        if bits not in self._by_bits:
            found = self._by_bits[bits] = self._new(_FLOAT)
            self._constants[found.number] = bits
        return self._by_bits[bits]

    def _new(self, dtype: np.dtype) -> _Recorded:
        self._numbers += 1
        return _Recorded(self, self._numbers - 1, dtype)


class _Recorded(np.lib.mixins.NDArrayOperatorsMixin):
    """What stands for an array while a formula is recorded. Raises NotCovered where it is asked for anything else."""

    def __init__(self, recording: _Recording, number: int, dtype: np.dtype) -> None:
        self.recording, self.number, self.dtype = recording, number, dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the arrays."""
        return self.recording.shape

    def astype(self, dtype: Any) -> _Recorded:
        """Itself: it has that type."""
        if np.dtype(dtype) != self.dtype:
            raise NotCovered("a conversion")
        return self

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> _Recorded:
        if method != "__call__" or options:
            raise NotCovered(f"{ufunc.__name__}.{method} with options")
        record = self.recording.computed
        if ufunc is np.square:
            return record("mul", _FLOAT, inputs * 2, (_FLOAT, _FLOAT))
        op = _ARITHMETIC.get(ufunc)
        if op is None and ufunc not in _COMPARISONS:
            raise NotCovered(ufunc.__name__)
        dtype = _FLOAT if op else _TRUTH
        return record(op or _COMPARISONS[ufunc], dtype, inputs, [_FLOAT] * len(inputs))

    def __array_function__(self, function: Any, types: Any, inputs: Any, options: Any) -> Any:
        if function is np.zeros_like and len(inputs) == 1 and not options:
            return np.float32(0)
        if function is np.where and len(inputs) == 3:
            condition, yes, no = inputs
            kinds = _TRUTH, _FLOAT, _FLOAT
            return self.recording.computed("select", _FLOAT, (condition, no, yes), kinds)
        raise NotCovered(function.__name__)

    def __getattr__(self, name: str) -> Any:
        raise NotCovered(name)


def _view(array: int) -> View:
    return View(array, 0, 0, 1, WORD)
