"""Every row of the case tables: values, types, static shapes and gradients of one op on small arrays."""

from __future__ import annotations

import collections

import jax
import numpy as np
import pytest

import headrace as tf
from headrace.autodiff import gradients
from headrace.core import dtypes
from headrace.core.tensor_shape import TensorShape
from headrace.graph.op_def import NOT_DIFFERENTIABLE, REGISTRY, Effect
from headrace.runtime.step import Step
from tests.ops.harness import Row, all_cases, dense, directions, fetchable, inner, is_float

CASES, BROKEN = all_cases()
_STEP = 1e-6


def _ids(cases):
    counts = collections.Counter()
    for case in cases:
        counts[case.op] += 1
        yield case.id or f"{case.op}-{counts[case.op]}"


def test_every_table_loads():
    assert BROKEN == {}


def same(got, expected, case, what):
    """Asserts that two lists of outputs agree: number, shapes, values."""
    assert len(got) == len(expected), f"{what}: {len(got)} outputs, expected {len(expected)}"
    for i, (a, b) in enumerate(zip(got, expected)):
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape, f"{what}, output {i}: shape {a.shape}, expected {b.shape}"
        if a.dtype == object or b.dtype.kind in "SUO":
            texts = [v if isinstance(v, bytes) else str(v).encode() for v in b.reshape(-1).tolist()]
            assert a.reshape(-1).tolist() == texts, f"{what}, output {i}"
            continue
        if a.dtype.name == "bfloat16":
            a, b = a.astype(np.float32), b.astype(np.float32)
        np.testing.assert_allclose(
            a, b, rtol=case.rtol, atol=case.atol, err_msg=f"{what}, output {i}", strict=False
        )


def declared(got, row, what):
    """Asserts that the values have the types that the graph declares."""
    for i, (value, tensor) in enumerate(zip(got, row.op._outputs)):
        wanted = tensor._dtype.base_dtype.as_numpy_dtype
        assert np.asarray(value).dtype == np.dtype(wanted), (
            f"{what}, output {i}: {np.asarray(value).dtype}, not {wanted}"
        )


@pytest.mark.parametrize("case", CASES, ids=list(_ids(CASES)))
def test_row(case):
    row = Row(case)
    definition = row.definition
    if not row.op._outputs and not definition.writes:
        assert row.run_compiled() == ([], [])
        return
    expected = row.expected()
    positions = row.differentiable_positions()
    projections = grads = None
    if positions:
        shapes = [t._dims for t in row.op._outputs]
        if any(s is None or None in s for s in shapes):
            shapes = [np.shape(v) for v in row.run_host()] if definition.host_rule else None
        if shapes is None:
            positions = []
        else:
            projections = row.projections(shapes)
            grads = row.gradient_nodes(positions, projections)
    outputs, fetched = row.run_compiled(fetchable(grads) if positions else [])

    if row.op._outputs:
        declared(outputs, row, "compiled")
    if expected is not None:
        same(outputs, expected, case, "compiled")
    if definition.host_rule is not None and row.is_pure and not row.has_state:
        results = row.run_host()
        declared(results, row, "host")
        if not definition.effects & Effect.SOURCE:
            same(results, outputs if expected is None else expected, case, "host")
    check_shapes(row, [np.shape(v) for v in outputs])
    if positions:
        found = dense(grads, fetched, [row.flat[i] for i in positions])
        check_gradient(row, positions, projections, found)


def check_shapes(row, real):
    """The rule for static shapes finds the real shape, and contradicts it never, however little is known."""
    if not row.op._outputs:
        return
    visible = [t for t in row.op._outputs if t._dtype not in (dtypes.resource, dtypes.variant)]
    for i, (tensor, shape) in enumerate(zip(visible, real)):
        if row.case.static:
            assert tensor._dims == shape, (
                f"static shape of output {i}: {tensor.shape}, real {shape}"
            )
        assert tensor.shape.is_compatible_with(shape), f"output {i}: {tensor.shape}, real {shape}"
    partial = [
        lambda position, array: [None] * array.ndim,
        lambda position, array: None,
        lambda position, array: [None if i % 2 else n for i, n in enumerate(array.shape)],
    ]
    count = len(row.arguments)
    if count > 1:
        for k in range(count):
            partial.append(lambda position, array, k=k: array.shape if position == k else None)
            partial.append(lambda position, array, k=k: None if position == k else array.shape)
    for shape_of in partial:
        for constants in (True, False):
            _, op, _ = row.build(shape_of, constants)
            tensors = [t for t in op._outputs if t._dtype not in (dtypes.resource, dtypes.variant)]
            for i, (tensor, shape) in enumerate(zip(tensors, real)):
                inputs = [str(TensorShape.of(t._dims)) for t in op._inputs]
                assert tensor.shape.is_compatible_with(shape), (
                    f"inputs known as {inputs}: output {i} {tensor.shape}, real {shape}"
                )


def wide_row(case):
    """The row in float64; as it is where the op has no such form."""
    try:
        return Row(case, wide=True)
    except (TypeError, ValueError):
        return Row(case)


def check_gradient(row, positions, projections, grads):
    """The gradient's nodes against jax.vjp of the lowering, and that against differences."""
    case = row.case
    wide = wide_row(case)
    forward, pull = wide.pullback(positions, projections)
    xs = [wide.flat[i] for i in positions]
    way = directions(xs)
    exact = all(x.dtype in (np.float64, np.complex128) for x in xs)
    step = _STEP if exact else 1e-2

    def everything(xs, way):
        above = forward(*(x + step * w for x, w in zip(xs, way)))
        below = forward(*(x - step * w for x, w in zip(xs, way)))
        return pull(*xs), above, below

    with jax.enable_x64(True):
        pulled, above, below = (
            [np.asarray(v) for v in values] for values in jax.jit(everything)(xs, way)
        )
    for i, got, want in zip(positions, grads, pulled):
        assert got.shape == want.shape, (
            f"gradient of input {i}: shape {got.shape}, input has {want.shape}"
        )
        got, want = np.asarray(got, want.dtype), want
        small = row.flat[i].dtype.itemsize / (2 if np.iscomplexobj(want) else 1) < 4
        rtol = max(case.grad_rtol, 2e-2 if small else 0)
        scale = float(np.max(np.abs(want))) if want.size else 0.0
        np.testing.assert_allclose(
            got,
            want,
            rtol=rtol,
            atol=rtol * max(scale, 1e-6),
            err_msg=f"gradient of input {i}, against jax.vjp",
        )
    cotangents = [p for p in projections if p is not None]
    slope = (inner(cotangents, above) - inner(cotangents, below)) / (2 * step)
    along = inner(pulled, way)
    rtol = case.grad_rtol if exact else max(case.grad_rtol, 3e-2)
    size = max(
        abs(slope), sum(float(np.sum(np.abs(p * w))) for p, w in zip(pulled, way)) * 1e-2, 1e-6
    )
    assert abs(along - slope) <= rtol * size, f"slope by jax.vjp {along}, by differences {slope}"


def _first_rows():
    """One row for each op that has a gradient."""
    seen = {}
    for case in CASES:
        rule = REGISTRY[case.op].gradient_rule
        if case.grad is not False and rule is not None and rule is not NOT_DIFFERENTIABLE:
            seen.setdefault(case.op, case)
    return seen


@pytest.mark.parametrize("op", sorted(_first_rows()))
def test_gradient_of_the_gradient(op):
    """The gradient's own gradient against differences of it."""
    row = wide_row(_first_rows()[op])
    positions = row.differentiable_positions()
    xs = [row.flat[i] for i in positions]
    if not positions or any(x.dtype not in (np.float64, np.complex128) for x in xs):
        pytest.skip("no float64 input")
    shapes = [t._dims for t in row.op._outputs]
    if any(s is None or None in s for s in shapes):
        pytest.skip("shape not known")
    projections = row.projections(shapes)
    with row.graph.as_default():
        inputs = [row.op._inputs[i] for i in positions]
        try:
            grads = row.gradient_nodes(positions, projections)
            first = [g for g in fetchable(grads) if is_float(g)]
            weights = directions([np.zeros(g._dims, g._dtype.as_numpy_dtype) for g in first])
            second = gradients(first, inputs, [tf.constant(w) for w in weights])
        except LookupError as error:
            pytest.skip(f"no second derivative: {str(error).splitlines()[0]}")
        except TypeError as error:
            assert "not in list of allowed values" in str(error)
            pytest.skip("the gradient's ops have no float64 form")
    if all(g is None for g in second):
        return  # linear
    tensors = [t for t in fetchable(second)]
    step = Step(row.graph, [*first, *tensors], [], [t for t, _ in row.feeds], row.resources)
    where = {row.op._inputs[i]: k for k, i in enumerate(positions)}
    way = directions(xs)[::-1] if len({x.shape for x in xs}) == 1 else directions(xs)

    def run(distance):
        feeds = [a + distance * way[where[t]] if t in where else a for t, a in row.feeds]
        values = [np.asarray(v) for v in step._run_compiled(feeds)]
        return values[: len(first)], values[len(first) :]

    above, below, (_, fetched) = run(_STEP)[0], run(-_STEP)[0], run(0.0)
    slope = (inner(weights, above) - inner(weights, below)) / (2 * _STEP)
    along = inner(dense(second, fetched, xs), way)
    size = max(abs(slope), 1e-3)
    assert abs(along - slope) <= 1e-3 * size, f"slope by gradients {along}, by differences {slope}"
