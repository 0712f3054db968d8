"""Gradients of If, Case, While and calls: functions that run the gradient of a body on what the body kept.

The gradient of a body is built with `gradients` like that of any graph. Where it uses a value from inside the body, the
forward operation gets one more output for it: of a branch the value itself, of a loop a list with the value of every
iteration, which the backward loop takes apart from its end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from headrace.autodiff.gradients import gradients, is_differentiable
from headrace.autodiff.indexed_slices import to_tensor
from headrace.core import dtypes
from headrace.core.tensor_shape import TensorShape
from headrace.graph import default, handles, raw
from headrace.graph.func_graph import (
    FuncGraph,
    call_inputs,
    function_named,
    functions_of,
    new_function,
    unique_function_name,
)
from headrace.graph.indexed_slices import IndexedSlices
from headrace.graph.op_def import lookup
from headrace.graph.operation import Operation
from headrace.graph.tensor import Dims, Tensor
from headrace.passes.segments import is_pure, static_tensors

# A size is computed from fewer operations than this.
_LONGEST_SIZE = 50


def _computed_again(body: FuncGraph, tensor: Tensor) -> Tensor | None:
    """A copy inside `body` of a tensor of the forward body, if that follows from constants and shapes; else None.

    What comes out of a branch or of a list is no longer known while a program is traced, and a size must be.
    """
    copied = body.copy_constant(tensor)
    if copied is not None or tensor not in static_tensors(_sources(tensor)):
        return copied
    op = tensor._op
    inputs = [body.capture(t) for t in op._inputs]
    with body.as_default(), body.control_dependencies(None):
        copy = raw.build_from_parts(body, op._definition, inputs, dict(op._attrs), None)
    return copy._outputs[op._outputs.index(tensor)]


def _sources(tensor: Tensor) -> list[Operation]:
    """The operation of `tensor` and those before it, up to what depends on values, in order."""
    found: dict[Operation, None] = {}

    def visit(op: Operation) -> None:
        if op not in found and len(found) < _LONGEST_SIZE:
            if op._definition.static_rule is None and is_pure(op):
                for source in op._inputs:
                    visit(source._op)
            found[op] = None

    visit(tensor._op)
    return list(found)


class _GradientBody(FuncGraph):
    """The gradient of a body, under construction: what it uses of that body comes through the forward operation."""

    def __init__(
        self, name: str, outer_graph: Any, forward: FuncGraph, outside: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__(name, outer_graph)
        self._forward, self._outside = forward, outside
        self._found: dict[Tensor, Tensor] = {}

    def capture(self, tensor: Tensor, name: str | None = None) -> Tensor:
        """As FuncGraph's; tensors of the forward body too."""
        if tensor.graph is not self._forward:
            return super().capture(tensor, name)
        found = self._found.get(tensor)
        if found is None:
            copied = _computed_again(self, tensor)
            found = self._found[tensor] = (
                copied if copied is not None else super().capture(self._outside(tensor))
            )
        return found


def _add_output(op: Operation, tensor: Tensor, types_attr: str) -> Tensor:
    """Gives `op` one more output with the type and shape of `tensor`."""
    op._attrs[types_attr] = [*op._attrs[types_attr], tensor._dtype.base_dtype]
    if op._attrs.get("output_shapes"):
        op._attrs["output_shapes"] = [*op._attrs["output_shapes"], TensorShape.of(tensor._dims)]
    output = Tensor(op, len(op._outputs), tensor._dtype.base_dtype)
    object.__setattr__(output, "_dims", tensor._dims)
    op._outputs.append(output)
    op._graph._mutations += 1
    return output


def _add_input(op: Operation, tensor: Tensor) -> None:
    """Gives `op` one more input; its attr of types grows elsewhere."""
    if tensor.graph is not op._graph:
        tensor = op._graph.capture(tensor)  # type: ignore[attr-defined]
    op._inputs = (*op._inputs, tensor)
    tensor._consumers.append(op)
    op._graph._mutations += 1


def _dense(grad: Any) -> Tensor | None:
    return to_tensor(grad) if isinstance(grad, IndexedSlices) else grad


def _value_type(tensor: Tensor) -> tuple[Any, Dims]:
    """The type and shape of the gradient of `tensor`: of a handle, those of its variable."""
    if tensor._dtype is dtypes.resource:
        data = handles.handle_data(tensor)
        return (dtypes.float32, None) if data is None else data
    return tensor._dtype.base_dtype, tensor._dims


def _has_gradient(tensor: Tensor) -> bool:
    """Whether a gradient for `tensor` is worth computing."""
    if tensor._dtype is dtypes.resource:
        data = handles.handle_data(tensor)
        return data is not None and is_differentiable(data[0])
    return is_differentiable(tensor._dtype)


def _zeros_of(tensor: Tensor) -> Tensor:
    """Zeros with the type and shape of the gradient of `tensor`."""
    if tensor._dtype is dtypes.resource:
        kind, dims = _value_type(tensor)
        if dims is not None and None not in dims:
            return raw.Fill(np.array(dims, np.int32), np.zeros((), kind.np_dtype))
        return raw.ZerosLike(raw.ReadVariableOp(tensor, dtype=kind))
    return raw.ZerosLike(tensor)


def _call(
    op_type: str, op: Operation, first: list[Tensor], captured: list[Tensor], attrs: dict[str, Any]
) -> Operation:
    """Adds the operation that calls gradient bodies."""
    graph = default.get_default_graph()
    definition = lookup(op_type)
    inputs = [graph.capture(t) if t.graph is not graph else t for t in [*first, *captured]]  # type: ignore[attr-defined]
    return raw.build_from_parts(graph, definition, inputs, attrs, None)


# ---- If, Case


def _branches_of(op: Operation) -> list[FuncGraph]:
    return [function.graph for _, function in functions_of(op)]


def _branch_gradient(op: Operation, *grads: Any) -> list[Any]:
    """A node of the same type over the gradients of the branches."""
    inputs = list(call_inputs(op))
    graph = default.get_default_graph()
    branches = _branches_of(op)
    known = [
        (i, _dense(g))
        for i, g in enumerate(grads)
        if g is not None and is_differentiable(op._outputs[i]._dtype)
    ]
    wanted = [i for i, t in enumerate(inputs) if _has_gradient(t)]
    bodies = []
    results: list[list[Any]] = []
    for number, forward in enumerate(branches):
        body = _GradientBody(
            unique_function_name(graph, f"{op._name}_branch{number}_grad"),
            graph,
            forward,
            _outside_of_branch(op, number),
        )
        with body.as_default():
            found = gradients(
                [forward.outputs[i] for i, _ in known],
                [forward.inputs[i] for i in wanted],
                grad_ys=[body.capture(g) for _, g in known],
            )
            results.append([_dense(g) for g in found])
        bodies.append(body)
    used = [k for k in range(len(wanted)) if any(r[k] is not None for r in results)]
    if not used:
        return [None] * len(op._inputs)
    for body, found in zip(bodies, results, strict=True):
        with body.as_default():
            body.outputs = [
                body.capture(found[k])
                if found[k] is not None
                else _zeros_of(body.capture(inputs[wanted[k]]))
                for k in used
            ]
    captured = _share_captures(bodies)
    shapes = [_value_type(inputs[wanted[k]])[1] for k in used]
    names = [new_function(body) for body in bodies]
    functions = (
        {"branches": names}
        if op.type == "Case"
        else dict(zip(("then_branch", "else_branch"), names, strict=True))
    )
    call = _call(
        op.type.removeprefix("Stateless"),
        op,
        [op._inputs[0]],
        captured,
        {
            "Tin": [t._dtype.base_dtype for t in captured],
            "Tout": [t._dtype.base_dtype for t in bodies[0].outputs],
            **functions,
            "output_shapes": [TensorShape.of(d) for d in shapes],
        },
    )
    answer: list[Any] = [None] * len(op._inputs)
    offset = len(op._inputs) - len(inputs)
    for k, output in zip(used, call._outputs, strict=True):
        answer[offset + wanted[k]] = output
    return answer


def _share_captures(bodies: Sequence[FuncGraph]) -> list[Tensor]:
    outer: dict[Tensor, None] = {}
    for body in bodies:
        outer.update(dict.fromkeys(body.captures))
    for body in bodies:
        inner = set(body.captures.values())
        own = [t for t in body.inputs if t not in inner]
        for tensor in outer:
            body.capture(tensor)
        body.inputs = own + [body.captures[t] for t in outer]
    return list(outer)


def _outside_of_branch(op: Operation, number: int) -> Callable[[Tensor], Tensor]:
    """Where a tensor of a branch is to be had outside: an input of the call, or one of its outputs."""
    inputs = list(call_inputs(op))
    branches = _branches_of(op)
    forward = branches[number]

    def outside(tensor: Tensor) -> Tensor:
        if tensor in forward.inputs:
            return inputs[forward.inputs.index(tensor)]
        for i, output in enumerate(forward.outputs):
            if output is tensor:
                return op._outputs[i]
        # Whoever exports the graph meanwhile sees the branches before, or after.
        with op._graph._lock:
            for other in branches:
                if other is forward:
                    forward.outputs.append(tensor)
                    continue
                with other.as_default(), other.control_dependencies(None):
                    shape = TensorShape.of(tensor._dims)
                    other.outputs.append(raw.FakeParam(dtype=tensor._dtype.base_dtype, shape=shape))
            forward._mutations += 1
            return _add_output(op, tensor, "Tout")

    return outside


# ---- While


def _while_gradient(op: Operation, *grads: Any) -> list[Any]:
    """A While that goes through the iterations from the last to the first."""
    if op._attrs.get("_stop_gradient"):
        return [None] * len(op._inputs)
    graph = default.get_default_graph()
    forward = function_named(op, op.attr("body").name).graph
    count = len(grads)
    answer: list[Any] = [None] * len(op._inputs)  # before the loop gets further inputs
    inputs = list(op._inputs[:count])
    wanted = [k for k in _connected(forward, grads) if _has_gradient(inputs[k])]
    if not wanted:
        return answer
    starts = []
    for k in wanted:
        grad = _dense(grads[k])
        starts.append(grad if grad is not None else _zeros_of(_state_of(op, k)))
    counter = _trip_counter(op, forward)
    keeper = _Keeper(op, forward)
    body = _BackwardBody(unique_function_name(graph, f"{op._name}_grad_body"), graph, keeper)
    with body.as_default():
        left = body.add_input(dtypes.int32, (), "iterations_left")
        arriving = [
            body.add_input(start._dtype.base_dtype, start._dims, f"grad_{i}")
            for i, start in enumerate(starts)
        ]
        found = gradients(
            [forward.outputs[k] for k in wanted],
            [forward.inputs[k] for k in wanted],
            grad_ys=arriving,
        )
        leaving = []
        for k, grad in zip(wanted, found, strict=True):
            grad = _dense(grad)
            leaving.append(
                _zeros_of(body.capture(forward.inputs[k])) if grad is None else body.capture(grad)
            )
        body.outputs = [raw.Sub(left, np.int32(1)), *leaving, *keeper.popped]
    captured = list(body.captures)
    own = [t for t in body.inputs if t not in set(body.captures.values())]
    body.inputs = own + [body.captures[t] for t in captured]
    body.outputs += [body.captures[t] for t in captured]
    condition = FuncGraph(unique_function_name(graph, f"{op._name}_grad_cond"), graph)
    with condition.as_default():
        for tensor in body.inputs:
            condition.add_input(tensor._dtype, tensor._dims, tensor._op._name.rpartition("/")[2])
        condition.outputs = [raw.Greater(condition.inputs[0], np.int32(0))]
    variables = [counter, *starts, *keeper.lists]
    everything = [*variables, *captured]
    call = _call(
        "While",
        op,
        [],
        everything,
        {
            "T": [t._dtype.base_dtype for t in everything],
            "cond": new_function(condition),
            "body": new_function(body),
            "output_shapes": [TensorShape.of(t._dims) for t in everything],
        },
    )
    for place, k in enumerate(wanted):
        answer[k] = call._outputs[1 + place]
    return answer


def _state_of(op: Operation, k: int) -> Tensor:
    """A tensor outside with the type of loop variable `k`: its last value, of a handle the handle."""
    return (
        op._inputs[k]
        if op._inputs[k]._dtype is dtypes.resource or op._inputs[k]._dtype.is_ref_dtype
        else op._outputs[k]
    )


def _connected(forward: FuncGraph, grads: Sequence[Any]) -> list[int]:
    """The loop variables that some gradient may reach, going backwards any number of iterations."""
    reached = {k for k, g in enumerate(grads) if g is not None}
    uses: dict[int, set[int]] = {}
    place = {t: k for k, t in enumerate(forward.inputs)}
    for k, output in enumerate(forward.outputs[: len(grads)]):
        seen: set[Operation] = set()
        stack = [output]
        uses[k] = set()
        while stack:
            tensor = stack.pop()
            if tensor in place:
                uses[k].add(place[tensor])
                continue
            if tensor._op not in seen:
                seen.add(tensor._op)
                stack.extend(t for t in tensor._op._inputs)
    queue = list(reached)
    while queue:
        k = queue.pop()
        for source in uses.get(k, ()):
            if source not in reached and source < len(grads):
                reached.add(source)
                queue.append(source)
    return sorted(reached)


def _add_loop_variable(
    op: Operation,
    forward: FuncGraph,
    start: Tensor,
    inner_name: str,
    new: Callable[[Tensor], Tensor],
    dims: Dims,
) -> tuple[Tensor, Tensor]:
    """Gives the loop one more variable; returns it inside the body, and its last value outside."""
    condition = function_named(op, op.attr("cond").name).graph
    with op._graph._lock:  # whoever exports the graph meanwhile sees the loop before, or after
        with forward.as_default(), forward.control_dependencies(None):
            inside = forward.add_input(start._dtype.base_dtype, dims, inner_name)
            updated = new(inside)
        forward.outputs.append(updated)
        forward._mutations += 1
        with condition.as_default(), condition.control_dependencies(None):
            condition.add_input(start._dtype.base_dtype, dims, inner_name)
        _add_input(op, start)
        return inside, _add_output(op, inside, "T")


def _trip_counter(op: Operation, forward: FuncGraph) -> Tensor:
    """The number of iterations that the loop made; a loop counts them once its gradient is asked for."""
    known = op._graph.__dict__.setdefault("_trip_counters", {})
    if op not in known:
        with (
            op._graph.as_default(),
            op._graph.control_dependencies(None),
            op._graph.name_scope(f"{op._name}_counter/"),
        ):
            start = raw.Identity(np.int32(0))
        _, known[op] = _add_loop_variable(
            op, forward, start, "trip_counter", lambda t: raw.Add(t, np.int32(1)), ()
        )
    return known[op]


class _Keeper:
    """Makes a loop keep values of its iterations in lists, and the backward loop take them out again."""

    def __init__(self, op: Operation, forward: FuncGraph) -> None:
        self.op, self.forward = op, forward
        self.body: Any = None
        self.lists: list[Tensor] = []  # outside: the lists with the values of all iterations
        self.popped: list[Tensor] = []  # inside the backward body: what is left of them

    def value(self, tensor: Tensor) -> Tensor:
        """Inside the backward body: the value that `tensor` had in the iteration that it goes through."""
        forward, op, body = self.forward, self.op, self.body
        if tensor in forward.inputs:
            k = forward.inputs.index(tensor)
            if (
                forward.outputs[k] is tensor
                or tensor._dtype.is_ref_dtype
                or tensor._dtype is dtypes.resource
            ):
                return FuncGraph.capture(body, op._inputs[k])
        kept = op._graph.__dict__.setdefault("_kept_values", {})
        last = kept.get((op, tensor))
        if last is None:
            last = kept[op, tensor] = self._keep(tensor)
        self.lists.append(last)
        with body.control_dependencies(None):
            handle = body.add_input(dtypes.variant, (), f"kept_{len(self.lists)}")
            with body.as_default():
                rest, value = raw.TensorListPopBack(
                    handle, _element_shape(tensor._dims), element_dtype=tensor._dtype.base_dtype
                )
        object.__setattr__(value, "_dims", tensor._dims)
        self.popped.append(rest)
        return value

    def _keep(self, tensor: Tensor) -> Tensor:
        op, forward = self.op, self.forward
        with (
            op._graph.as_default(),
            op._graph.control_dependencies(None),
            op._graph.name_scope(f"{op._name}_kept/"),
        ):
            start = raw.EmptyTensorList(
                _element_shape(tensor._dims), np.int32(-1), element_dtype=tensor._dtype.base_dtype
            )
        _, last = _add_loop_variable(
            op, forward, start, "kept", lambda inside: raw.TensorListPushBack(inside, tensor), ()
        )
        return last


def _element_shape(dims: Dims) -> np.ndarray:
    if dims is None:
        return np.array(-1, np.int32)
    return np.array([-1 if d is None else d for d in dims], np.int32)


class _BackwardBody(FuncGraph):
    """The gradient of the body of a loop, under construction: what it uses of an iteration comes from lists."""

    def __init__(self, name: str, outer_graph: Any, keeper: _Keeper) -> None:
        super().__init__(name, outer_graph)
        self._keeper = keeper
        self._found: dict[Tensor, Tensor] = {}
        keeper.body = self

    def capture(self, tensor: Tensor, name: str | None = None) -> Tensor:
        """As FuncGraph's; tensors of the forward body too."""
        if tensor.graph is not self._keeper.forward:
            return super().capture(tensor, name)
        found = self._found.get(tensor)
        if found is None:
            copied = _computed_again(self, tensor)
            found = self._found[tensor] = (
                copied if copied is not None else self._keeper.value(tensor)
            )
        return found


# ---- calls


def _call_gradient(op: Operation, *grads: Any) -> list[Any]:
    """A call of the gradient of the function; what the function kept comes as further outputs of the forward call."""
    graph = default.get_default_graph()
    forward = function_named(op, op.attr("f").name).graph
    inputs = list(call_inputs(op))
    known = [
        (i, _dense(g))
        for i, g in enumerate(grads)
        if g is not None and is_differentiable(op._outputs[i]._dtype)
    ]
    wanted = [i for i, t in enumerate(inputs) if _has_gradient(t)]

    def outside(tensor: Tensor) -> Tensor:
        if tensor in forward.inputs:
            return inputs[forward.inputs.index(tensor)]
        if not any(output is tensor for output in forward.outputs):
            forward.outputs.append(tensor)
            forward._mutations += 1
        at = next(i for i, output in enumerate(forward.outputs) if output is tensor)
        # Another call of the function may have been given further outputs before.
        while len(op._outputs) <= at:
            _add_output(op, forward.outputs[len(op._outputs)], "Tout")
        return op._outputs[at]

    body = _GradientBody(unique_function_name(graph, f"{op._name}_grad"), graph, forward, outside)
    with body.as_default():
        found = [
            _dense(g)
            for g in gradients(
                [forward.outputs[i] for i, _ in known],
                [forward.inputs[i] for i in wanted],
                grad_ys=[body.capture(g) for _, g in known],
            )
        ]
        used = [k for k, g in enumerate(found) if g is not None]
        body.outputs = [body.capture(found[k]) for k in used]
    answer: list[Any] = [None] * len(op._inputs)
    if not used:
        return answer
    captured = list(body.captures)
    call = _call(
        op.type,
        op,
        [],
        captured,
        {
            "Tin": [t._dtype.base_dtype for t in captured],
            "Tout": [t._dtype.base_dtype for t in body.outputs],
            "f": new_function(body),
        },
    )
    for k, output in zip(used, call._outputs, strict=True):
        answer[wanted[k]] = output
    return answer


for _name, _rule in (
    ("If", _branch_gradient),
    ("StatelessIf", _branch_gradient),
    ("Case", _branch_gradient),
    ("While", _while_gradient),
    ("StatelessWhile", _while_gradient),
    ("PartitionedCall", _call_gradient),
    ("StatefulPartitionedCall", _call_gradient),
):
    lookup(_name).gradient(_rule)
