"""The backward walk: adds the nodes that compute the derivatives of some tensors with respect to others.

Reverse mode, one op at a time. First the ops on a path from the xs to the ys are found, and for each the number of
consumers on such paths. An op is visited once all of these have handed back their part of the gradient of its outputs;
the parts are added up, the op's gradient rule makes the gradients of its inputs from them, and these go on to the ops
that made the inputs.
"""

from __future__ import annotations

import collections
import contextlib
import enum
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from headrace.autodiff.aggregate import aggregate, checked_method
from headrace.autodiff.indexed_slices import convert_n
from headrace.autodiff.registry import gradient_rule_of
from headrace.core import dtypes
from headrace.core.dtypes import DType
from headrace.graph import default, raw, shapes
from headrace.graph.graph import Graph
from headrace.graph.indexed_slices import IndexedSlices
from headrace.graph.op_def import Effect
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor

_DIFFERENTIABLE = frozenset(
    dtypes.as_dtype(name)
    for name in (
        "bfloat16",
        "float16",
        "float32",
        "float64",
        "complex64",
        "complex128",
        "resource",
        "variant",
    )
)


class UnconnectedGradients(enum.Enum):
    """What stands for the gradient of an x on which no y depends: None, or zeros of the shape of x."""

    NONE = "none"
    ZERO = "zero"


def is_differentiable(dtype: DType) -> bool:
    """Whether gradients pass through tensors of this type."""
    return dtype.base_dtype in _DIFFERENTIABLE


def gradients(
    ys: Any,
    xs: Any,
    grad_ys: Any = None,
    name: str = "gradients",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: int | None = None,
    stop_gradients: Any = None,
    unconnected_gradients: Any = UnconnectedGradients.NONE,
) -> list[Any]:
    """The sum over `ys` of dy/dx, for each x: the nodes that compute them.

    grad_ys: what to multiply each y's derivatives with, ones where None. stop_gradients: tensors that count as
    constants. gate_gradients: all gradients of an op are ready before one is used. unconnected_gradients: what an x
    gets on which no y depends. Returns a Tensor, IndexedSlices or None for each x.
    Raises LookupError: an op on the way has no gradient. ValueError: gradients that do not fit. TypeError: types that
    have none.
    """
    ys, xs = _as_list(ys), _as_list(xs)
    stops = [] if stop_gradients is None else _as_list(stop_gradients)
    grads = [None] * len(ys) if grad_ys is None else _as_list(grad_ys)
    try:
        unconnected = UnconnectedGradients(unconnected_gradients)
    except ValueError:
        raise ValueError(
            f"Unknown value for unconnected_gradients: {unconnected_gradients!r}"
        ) from None
    graph = _graph_of([*ys, *xs, *stops, *grads])
    with contextlib.ExitStack() as blocks:
        if graph is not default.get_default_graph():
            blocks.enter_context(graph.as_default())
        blocks.enter_context(graph.name_scope("gradients" if name is None else name))
        # TensorFlow takes this name for an identifier of the call, and later nodes are numbered after it.
        graph.unique_name("uid")
        walk = _Walk(
            graph,
            [_values_of(y) for y in convert_n(ys, name="y")],
            [_values_of(x) for x in convert_n([_handle_of(x) for x in xs], name="x", as_ref=True)],
            [_values_of(s) for s in convert_n([_handle_of(s) for s in stops], as_ref=True)],
            colocate_gradients_with_ops,
            gate_gradients,
            checked_method(aggregation_method),
        )
        walk.run(grads)
        return [walk.result(x, unconnected) for x in walk.xs]


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _graph_of(values: Sequence[Any]) -> Graph:
    """The default graph while it is a function's body, else the graph of the values."""
    current = default.get_default_graph()
    if current.building_function:
        return current
    found: Any = None
    for value in values:
        element = (
            value
            if isinstance(value, (Tensor, IndexedSlices))
            else getattr(value, "_as_graph_element", lambda: None)()
        )
        graph = getattr(element, "graph", None)
        if graph is None:
            continue
        if found is not None and graph is not found.graph:
            raise ValueError(f"{element!r} must be from the same graph as {found!r}.")
        found = found if found is not None else element
    return found.graph if found is not None else current


def _handle_of(x: Any) -> Any:
    """The resource handle of a variable that has one: gradients are taken with respect to it."""
    if isinstance(x, (Tensor, IndexedSlices)):
        return x
    handle = getattr(x, "handle", None)
    return handle if isinstance(handle, Tensor) and handle.dtype == dtypes.resource else x


def _values_of(x: Any) -> Tensor:
    return x.values if isinstance(x, IndexedSlices) else x


class _Walk:
    """One call of `gradients`: which ops lie between, what has arrived at each output, who waits for whom."""

    def __init__(
        self,
        graph: Graph,
        ys: list[Tensor],
        xs: list[Tensor],
        stops: list[Tensor],
        colocate: bool,
        gate: bool,
        method: int,
    ) -> None:
        self.graph, self.ys, self.xs = graph, ys, xs
        self._x_set = set(xs)
        self._colocate, self._gate, self._method = colocate, gate, method
        self._captured = _Captures(graph)
        # op -> for each output the gradients that arrived; their sum once the op is visited
        self._grads: dict[Operation, list[Any]] = {}
        reachable = self._reachable([x._op for x in xs])
        self._pending, self._roots = self._count_pending([y._op for y in ys], reachable)
        self._stop_ops = {
            x._op
            for x in xs
            if not any(self._pending.get(t._op, 0) > 0 for t in self._inputs(x._op))
        } | {s._op for s in stops}

    # ---- the graph, with the borders of function bodies taken away

    def _inputs(self, op: Operation) -> Sequence[Tensor]:
        if not op._graph.building_function:
            return op._inputs
        # With respect to a captured input itself, the walk must see it.
        return [t if t in self._x_set else self._captured.source(t) for t in op._inputs]

    def _reachable(self, starts: Sequence[Operation]) -> set[Operation]:
        """The ops that depend on `starts` through tensors that have gradients."""
        reached: set[Operation] = set()
        queue = list(starts)
        while queue:
            op = queue.pop()
            if op in reached:
                continue
            reached.add(op)
            for tensor in op._outputs:
                if is_differentiable(tensor._dtype):
                    queue += tensor._consumers
                    queue += self._captured.consumers(tensor)
        return reached

    def _count_pending(
        self, ends: Sequence[Operation], reachable: set[Operation]
    ) -> tuple[dict[Operation, int], list[Operation]]:
        """For each op between xs and ys how many inputs of such ops it feeds; and the ops of ys that are reachable."""
        roots = [op for op in dict.fromkeys(ends) if op in reachable]
        between: dict[Operation, None] = {}
        queue = collections.deque(roots)
        while queue:
            op = queue.popleft()
            if op in between or op not in reachable:
                continue
            between[op] = None
            queue.extend(t._op for t in self._inputs(op))
        pending: dict[Operation, int] = {}
        for op in between:
            for tensor in self._inputs(op):
                if tensor._op in between:
                    pending[tensor._op] = pending.get(tensor._op, 0) + 1
        return pending, roots

    # ---- the walk

    def run(self, grad_ys: Sequence[Any]) -> None:
        for y, grad in zip(self.ys, self._first_gradients(grad_ys), strict=True):
            self._add(y, grad)
        queue = collections.deque(op for op in self._roots if not self._pending.get(op, 0))
        while queue:
            op = queue.popleft()
            inputs = self._inputs(op)
            with self._colocated(op):
                out_grads = self._aggregated(op)
                in_grads = self._gradients_of_inputs(op, out_grads)
            if in_grads is not None:
                for index, (tensor, grad) in enumerate(zip(inputs, in_grads, strict=False)):
                    if grad is not None:
                        _check_shape(op, index, tensor, grad)
                        self._add(tensor, grad)
            for tensor in inputs:
                left = self._pending.get(tensor._op)
                if left is not None:
                    self._pending[tensor._op] = left - 1
                    if left == 1:
                        queue.append(tensor._op)

    def _add(self, tensor: Tensor, grad: Any) -> None:
        op = tensor._op
        arrived = self._grads.get(op)
        if arrived is None:
            arrived = self._grads[op] = [[] for _ in op._outputs]
        if arrived[tensor._index].__class__ is list:
            arrived[tensor._index].append(grad)

    def _aggregated(self, op: Operation) -> list[Any]:
        arrived = self._grads.get(op)
        if arrived is None:
            return []
        for i, grads in enumerate(arrived):
            if grads.__class__ is list:
                arrived[i] = aggregate(self.graph, op, grads, self._method)
        return list(arrived)

    def _gradients_of_inputs(self, op: Operation, out_grads: list[Any]) -> Sequence[Any] | None:
        """What the op's rule makes of the gradients of its outputs; None where nothing arrived or it has none."""
        # What makes integers of numbers, handles or lists has no derivative, whatever its rule says.
        if op in self._stop_ops or not any(
            grad is not None and is_differentiable(tensor._dtype)
            for grad, tensor in zip(out_grads, op._outputs, strict=False)
        ):
            return None
        try:
            rule = gradient_rule_of(op)
        except LookupError:
            raise LookupError(
                f"No gradient defined for operation '{op._name}' (op type: {op.type}){op._site_line()}"
            ) from None
        if rule is None:
            return None
        for i, tensor in enumerate(op._outputs):
            # The ys do not depend on this output, so its gradient is zero.
            if out_grads[i] is None and is_differentiable(tensor._dtype):
                out_grads[i] = zeros_like(tensor)
        # The rule of a loop may add inputs to the op.
        count = len(op._inputs)
        with self.graph.name_scope(op._name + "_grad"), self.graph._original_op_scope(op):
            in_grads = rule(op, *out_grads)
            if not isinstance(in_grads, (list, tuple)):
                in_grads = [in_grads]
            if len(in_grads) != count:
                raise ValueError(
                    f"Num gradients {len(in_grads)} generated for op {op._name!r} ({op.type}) do not match "
                    f"num inputs {count}"
                )
            if self._gate and sum(grad is not None for grad in in_grads) > 1:
                with self.graph.device(None), self.graph.colocate_with(None, ignore_existing=True):
                    in_grads = _all_at_once(self.graph, in_grads)
        return in_grads

    @contextlib.contextmanager
    def _colocated(self, op: Operation) -> Iterator[None]:
        if self._colocate:
            with self.graph.colocate_with(op):
                yield
        else:
            yield

    def _first_gradients(self, grad_ys: Sequence[Any]) -> list[Any]:
        if len(grad_ys) != len(self.ys):
            raise ValueError(f"Passed {len(grad_ys)} grad_ys for {len(self.ys)} ys")
        first = []
        for i, (y, grad) in enumerate(zip(self.ys, convert_n(grad_ys, name="grad_y"), strict=True)):
            with self._colocated(y._op):
                first.append(_ones(y, i) if grad is None else _named(_checked_first(y, grad), i))
        return first

    def result(self, x: Tensor, unconnected: UnconnectedGradients) -> Any:
        """The gradient of `x` after the walk."""
        arrived = self._grads.get(x._op)
        grad = arrived[x._index] if arrived is not None else None
        if grad.__class__ is list:  # an x that no walk reached: only its siblings
            grad = None
        if grad is None and unconnected is UnconnectedGradients.ZERO:
            return zeros_like(x)
        return grad


class _Captures:
    """The tensors that the bodies of functions being built take from the graphs around them."""

    def __init__(self, graph: Graph) -> None:
        self._sources: dict[Tensor, Tensor] = {}
        self._insides: dict[Tensor, list[Tensor]] = {}
        body: Any = graph
        while body is not None and body.building_function:
            for captures in (body.captures, body.captures_of_constants):
                for outer, inner in captures.items():
                    self._sources[inner] = outer
                    self._insides.setdefault(outer, []).append(inner)
            body = body.outer_graph

    def source(self, tensor: Tensor) -> Tensor:
        """The tensor that `tensor` stands for."""
        while tensor in self._sources:
            tensor = self._sources[tensor]
        return tensor

    def consumers(self, tensor: Tensor) -> list[Operation]:
        """The ops of function bodies that take `tensor`."""
        found: list[Operation] = []
        for inner in self._insides.get(tensor, ()):
            found += inner._consumers
            found += self.consumers(inner)
        return found


def _ones(y: Tensor, index: int) -> Tensor:
    if y._dtype.is_complex:
        raise TypeError(f"Gradients of complex tensors must set grad_ys (y.dtype = {y._dtype!r})")
    if y._dtype.base_dtype in (dtypes.resource, dtypes.variant):
        raise TypeError(f"Gradients of {y!r} must set grad_ys: its type has no ones")
    dims = y._dims
    shape = (
        raw.Const(value=_tensor_value(np.array(dims, np.int32)), dtype=dtypes.int32, name="Shape")
        if (shapes.is_known(dims))
        else raw.Shape(y, name="Shape")
    )
    one = raw.Const(
        value=_tensor_value(np.ones((), y._dtype.base_dtype.as_numpy_dtype)),
        dtype=y._dtype.base_dtype,
        name=f"grad_ys_{index}",
    )
    return raw.Fill(shape, one, name="Fill")


def _tensor_value(array: np.ndarray) -> Any:
    from headrace.graph.attr_value import TensorValue

    return TensorValue(array, dtypes.as_dtype(array.dtype))


def _checked_first(y: Tensor, grad: Any) -> Any:
    """`grad`, if its type can be that of a gradient of `y`. Raises TypeError."""
    kind, wanted = y._dtype.base_dtype, None
    if kind.is_floating or kind.is_integer:
        if not grad.dtype.is_floating and not grad.dtype.is_integer:
            wanted = "real or integer"
    elif kind.is_complex:
        if not grad.dtype.is_complex:
            wanted = "complex"
    elif kind == dtypes.variant:
        if grad.dtype != dtypes.variant:
            wanted = "variant"
    elif kind == dtypes.resource:
        if grad.dtype == dtypes.resource:
            raise TypeError(
                f"Input gradient {grad} for resource tensor {y} should not be a resource"
            )
    else:
        raise TypeError(
            f"Tensor {y} with type {kind.name} must be numeric to obtain a default gradient"
        )
    if wanted is not None:
        raise TypeError(
            f"Gradient type {grad.dtype.name} generated for tensor {y} with type {kind.name} must be {wanted}"
        )
    return grad


def _named(grad: Any, index: int) -> Any:
    if not isinstance(grad, IndexedSlices):
        return raw.Identity(grad, name=f"grad_ys_{index}")
    shape = grad.dense_shape
    return IndexedSlices(
        raw.Identity(grad.values, name=f"grad_ys_{index}_values"),
        raw.Identity(grad.indices, name=f"grad_ys_{index}_indices"),
        None if shape is None else raw.Identity(shape, name=f"grad_ys_{index}_shape"),
    )


def zeros_like(tensor: Tensor) -> Tensor | None:
    """Zeros for the gradient of `tensor`: of the variable's shape where it is a handle, None where that is unknown."""
    if tensor._dtype != dtypes.resource:
        return raw.ZerosLike(tensor, name="zeros_like")
    if not tensor._op._definition.effects & Effect.HANDLE or "dtype" not in tensor._op._attrs:
        return None
    dtype = tensor._op.attr("dtype")
    return raw.Fill(raw.VariableShape(tensor), np.zeros((), dtype.as_numpy_dtype), name="zeros")


def _check_shape(op: Operation, index: int, tensor: Tensor, grad: Any) -> None:
    """Adds what the input's shape says of its gradient. Raises ValueError: the shapes contradict each other."""
    if (
        grad.__class__ is not Tensor
        or tensor._dtype == dtypes.resource
        or grad._dims == tensor._dims
    ):
        return
    try:
        grad.set_shape(tensor.shape)
    except ValueError:
        raise ValueError(
            "Incompatible shapes between op input and calculated input gradient.  "
            f"Forward operation: {op._name}.  Input index: {index}. Original input shape: {tensor.shape}.  "
            f"Calculated input gradient shape: {grad.shape}"
        ) from None


def _all_at_once(graph: Graph, grads: Sequence[Any]) -> list[Any]:
    """The same gradients, none of which is available before all are."""
    with graph.name_scope("tuple"):
        with graph.control_dependencies([grad.op for grad in grads if grad is not None]):
            gate = raw.NoOp(name="group_deps")
        return [None if grad is None else _after(graph, gate, grad) for grad in grads]


def _after(graph: Graph, gate: Operation, grad: Any) -> Any:
    with graph.colocate_with(grad.op), graph.control_dependencies([gate]):
        if not isinstance(grad, IndexedSlices):
            return raw.Identity(grad, name="control_dependency")
        return IndexedSlices(
            raw.Identity(grad.values, name="control_dependency"),
            raw.Identity(grad.indices, name="control_dependency"),
            grad.dense_shape,
        )
