"""What one row of the case tables is put through; the tests are in `test_cases.py`."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import headrace as tf
from headrace.autodiff import gradients
from headrace.core import dtypes
from headrace.graph import op_def, raw
from headrace.graph.graph import Graph
from headrace.graph.indexed_slices import IndexedSlices
from headrace.graph.op_def import NOT_DIFFERENTIABLE, REGISTRY, Effect
from headrace.graph.operation import group_by_argument
from headrace.lowering import checks
from headrace.runtime.kernels import _KernelOp
from headrace.runtime.resources import ResourceStore
from headrace.runtime.step import Step
from tests.ops.case import Case

WIDE = {
    dtypes.float16: dtypes.float64,
    dtypes.bfloat16: dtypes.float64,
    dtypes.float32: dtypes.float64,
    dtypes.complex64: dtypes.complex128,
}


@functools.cache
def all_cases() -> tuple[list[Case], dict[str, str]]:
    """The rows of every `cases_*.py` beside this file, and what went wrong in files that do not load."""
    found, broken = [], {}
    for path in sorted(Path(__file__).parent.glob("cases_*.py")):
        try:
            found += importlib.import_module(f"tests.ops.{path.stem}").CASES
        except Exception as error:
            broken[path.name] = repr(error)
    return found, broken


def is_float(value: Any) -> bool:
    """Whether the elements of an array or tensor are real or complex numbers."""
    dtype = dtypes.as_dtype(value.dtype)
    return dtype.is_floating or dtype.is_complex


def arrays_of(value: Any) -> Any:
    """An input of a row as NumPy arrays, a list for a variadic argument."""
    if isinstance(value, list):
        return [_strings_as_bytes(np.asarray(v)) for v in value]
    return _strings_as_bytes(np.asarray(value))


def _strings_as_bytes(array: np.ndarray) -> np.ndarray:
    """Strings as sessions hand them to operations."""
    if array.dtype.kind not in "SUO":
        return array
    out = np.empty(array.shape, dtype=object)
    out.reshape(-1)[:] = [
        v.encode() if isinstance(v, str) else v for v in array.reshape(-1).tolist()
    ]
    return out


class Row:
    """A case applied: the op in a graph of its own; inputs are placeholders, or constants where they decide shapes."""

    def __init__(self, case: Case, wide: bool = False) -> None:
        """wide: with float64 in place of smaller floats. Raises TypeError: the op has no such form."""
        self.case = case
        self.definition = REGISTRY[case.op]
        self.arguments = self.definition.signature.inputs
        self.inputs = [arrays_of(v) for v in case.inputs]
        self.attrs = dict(case.attrs)
        if wide:
            self._widen()
        self.resources = ResourceStore()
        self.graph, self.op, self.tensors = self.build()
        self.flat = [a for v in self.inputs for a in (v if isinstance(v, list) else [v])]
        self.feeds = [
            (t, a) for t, a in zip(self.op._inputs, self.flat) if t._op.type == "Placeholder"
        ]

    def _widen(self) -> None:
        def up(array: np.ndarray, argument: op_def.ArgSpec) -> np.ndarray:
            wider = WIDE.get(dtypes.as_dtype(array.dtype)) if argument.dtype is None else None
            return array.astype(wider.as_numpy_dtype) if wider else array

        self.inputs = [
            [up(a, arg) for a in v] if isinstance(v, list) else up(v, arg)
            for v, arg in zip(self.inputs, self.arguments)
        ]
        for name, value in self.attrs.items():
            if self.definition.signature.attrs[name].kind == "type":
                self.attrs[name] = WIDE.get(dtypes.as_dtype(value), value)

    def build(self, shape_of: Any = lambda position, array: array.shape, constants: bool = True):
        """(graph, op, input tensors by argument). shape_of: the shape that each placeholder declares."""
        graph = Graph()
        given: dict[str, Any] = dict(self.attrs)
        with graph.as_default():
            for position, (argument, value) in enumerate(zip(self.arguments, self.inputs)):
                if isinstance(value, list):
                    given[argument.name] = [
                        self._source(argument, a, shape_of(position, a), constants) for a in value
                    ]
                else:
                    shape = shape_of(position, value)
                    given[argument.name] = self._source(argument, value, shape, constants)
            op = raw.build(self.definition, given, None)
        return graph, op, [given[a.name] for a in self.arguments]

    def _source(self, argument: Any, array: np.ndarray, shape: Any, constants: bool) -> Any:
        dtype = dtypes.as_dtype(array.dtype)
        if argument.is_ref:
            made = raw.VariableV2(shape=shape, dtype=dtype)
        elif argument.dtype is dtypes.resource:
            made = raw.VarHandleOp(dtype=dtype, shape=shape)
        elif argument.name in self.definition.static_inputs and constants:
            return tf.constant(array)
        else:
            return raw.Placeholder(dtype=dtype, shape=tf.TensorShape(shape))
        self.resources.cell(made.op._attrs.get("shared_name") or made.op.name).value = array
        return made

    # ---- what the row allows

    @property
    def has_state(self) -> bool:
        return any(a.is_ref or a.dtype is dtypes.resource for a in self.arguments)

    @property
    def is_pure(self) -> bool:
        return not self.has_state and not self.definition.effects & Effect.RANDOM

    def differentiable_positions(self) -> list[int]:
        """Flat positions of the inputs whose gradient is compared."""
        rule = self.definition.gradient_rule
        if self.case.grad is False or rule is None or rule is NOT_DIFFERENTIABLE:
            return []
        if not self.is_pure or self.definition.lower_rule is None:
            return []
        wanted = self.case.grad
        flat, at = [], 0
        for position, value in enumerate(self.inputs):
            many = value if isinstance(value, list) else [value]
            for array in many:
                if is_float(array) and (wanted is True or position in wanted):
                    if self.arguments[position].name not in self.definition.static_inputs:
                        flat.append(at)
                at += 1
        return flat if any(is_float(t) for t in self.op._outputs) else []

    # ---- values

    def expected(self) -> list[Any] | None:
        """The outputs that the row demands, or None."""
        value = self.case.expected
        if callable(value):
            value = value(*self.inputs)
        if value is None:
            return None
        return list(value) if isinstance(value, (list, tuple)) else [value]

    def run_compiled(self, fetches: list[Any] = ()) -> tuple[list[Any], list[Any]]:
        """The op's outputs (where it has none, what it left in its variables) and `fetches`, from islands."""
        outputs = [t for t in self.op._outputs if t._dtype not in (dtypes.resource, dtypes.variant)]
        step = Step(
            self.graph,
            [*outputs, *fetches],
            [self.op],
            [t for t, _ in self.feeds],
            self.resources,
        )
        results = step._run_compiled([a for _, a in self.feeds])
        values = [np.asarray(r) for r in results]
        if not self.op._outputs and self.definition.writes:
            written = [
                t
                for t, a in zip(self.op._inputs, self.arguments)
                if a.name in self.definition.writes
            ]
            names = [t._op._attrs.get("shared_name") or t._op.name for t in written]
            return [np.asarray(self.resources.cell(n).value) for n in names], values
        return values[: len(outputs)], values[len(outputs) :]

    def run_host(self) -> list[np.ndarray]:
        """The op's outputs by its NumPy rule."""
        with np.errstate(all="ignore"):
            results = self.definition.host_rule(_KernelOp(self.op), *self.inputs)
        return list(results) if isinstance(results, (list, tuple)) else [results]

    def lower(self, flat: Any) -> list[Any]:
        """The op's outputs by its JAX rule, under a trace."""
        names = [a.name for a in self.arguments]
        grouped = group_by_argument(self.op, list(flat))
        given = [
            v if name in self.definition.static_inputs else w
            for name, v, w in zip(names, self.inputs, grouped)
        ]
        with checks.collecting(checks.Collector()):
            results = self.definition.lower_rule(_KernelOp(self.op), *given)
        return list(results) if isinstance(results, (list, tuple)) else [results]

    # ---- gradients

    def projections(self, shapes: list[Any]) -> list[Any]:
        """A random cotangent for each float output, None for the others."""
        rng = np.random.default_rng(7)
        made = []
        for tensor, shape in zip(self.op._outputs, shapes):
            dtype = tensor._dtype.base_dtype
            if not (dtype.is_floating or dtype.is_complex):
                made.append(None)
                continue
            values = rng.uniform(-1, 1, shape)
            if dtype.is_complex:
                values = values + 1j * rng.uniform(-1, 1, shape)
            made.append(values.astype(dtype.as_numpy_dtype))
        return made

    def gradient_nodes(
        self, positions: list[int], projections: list[Any], wrt: Any = None
    ) -> list[Any]:
        """What `tf.gradients` gives for the inputs at `positions`: tensors, IndexedSlices or None."""
        with self.graph.as_default():
            pairs = [
                (t, tf.constant(p)) for t, p in zip(self.op._outputs, projections) if p is not None
            ]
            xs = [self.op._inputs[i] for i in positions]
            return gradients([t for t, _ in pairs], xs, [p for _, p in pairs])

    def pullback(self, positions: list[int], projections: list[Any]) -> Any:
        """x (arrays at `positions`) -> cotangents of x by jax.vjp, in TensorFlow's convention for complex numbers."""

        def forward(*xs: Any) -> list[Any]:
            flat = list(self.flat)
            for position, x in zip(positions, xs):
                flat[position] = x
            return [r for r, p in zip(self.lower(flat), projections) if p is not None]

        cotangents = [jnp.conj(p) for p in projections if p is not None]

        def pull(*xs: Any) -> tuple[Any, ...]:
            values, vjp = jax.vjp(forward, *xs)
            return tuple(
                jnp.conj(g) for g in vjp([c.astype(v.dtype) for c, v in zip(cotangents, values)])
            )

        return forward, pull


def fetchable(grads: list[Any]) -> list[Any]:
    """The tensors to fetch for gradients as `tf.gradients` gives them."""
    tensors = []
    for grad in grads:
        if isinstance(grad, IndexedSlices):
            tensors += [grad.values, grad.indices]
        elif grad is not None:
            tensors.append(grad)
    return tensors


def dense(grads: list[Any], fetched: list[np.ndarray], like: list[np.ndarray]) -> list[np.ndarray]:
    """The gradients as arrays: rows scattered, zeros for None."""
    values = iter(fetched)
    found = []
    for grad, x in zip(grads, like):
        if grad is None:
            found.append(np.zeros_like(x))
        elif isinstance(grad, IndexedSlices):
            rows, indices = next(values), next(values)
            total = np.zeros(x.shape, rows.dtype)
            np.add.at(total, indices.reshape(-1), rows.reshape((-1,) + x.shape[1:]))
            found.append(total)
        else:
            found.append(next(values))
    return found


def directions(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """A random direction in the space of the inputs."""
    rng = np.random.default_rng(11)
    made = []
    for array in arrays:
        step = rng.uniform(-1, 1, array.shape)
        if np.iscomplexobj(array):
            step = step + 1j * rng.uniform(-1, 1, array.shape)
        made.append(step.astype(array.dtype))
    return made


def inner(a: list[Any], b: list[Any]) -> float:
    """The real inner product of two lists of arrays."""
    return float(sum(np.sum(np.real(np.conj(x) * y)) for x, y in zip(a, b)))
