"""Branches and loops: `tf.cond`, `tf.case`, `tf.switch_case`, `tf.while_loop`.

Branches and bodies become functions (see `graph/func_graph.py`), which capture what they use of the graph around.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from headrace.api.export import export
from headrace.api.framework import name_scope
from headrace.api.fresh_reads import read_inside
from headrace.core import dtypes, nest
from headrace.core.tensor_shape import TensorShape, as_shape
from headrace.graph import convert, default, raw
from headrace.graph.constant_value import constant_value
from headrace.graph.func_graph import FuncGraph, new_function, unique_function_name
from headrace.graph.graph import Graph
from headrace.graph.indexed_slices import IndexedSlices
from headrace.graph.operation import Operation
from headrace.graph.tensor import Dims, Tensor
from headrace.graph.type_spec import TensorSpec

# ---- structures of tensors


def flatten_composites(structure: Any) -> list[Any]:
    """The leaves of nested structures; IndexedSlices, SparseTensors and TensorArrays give their parts."""
    flat: list[Any] = []
    for leaf in nest.flatten(structure):
        parts = parts_of(leaf)
        flat += parts if parts is not None else [leaf]
    return flat


def parts_of(leaf: Any) -> list[Any] | None:
    """The tensors that a composite leaf consists of; None for a leaf that is no composite."""
    if isinstance(leaf, IndexedSlices):
        parts = [leaf.values, leaf.indices]
        return parts if leaf.dense_shape is None else [*parts, leaf.dense_shape]
    method = getattr(leaf, "_composite_parts", None)
    return method() if method is not None else None


def pack_composites(structure: Any, flat: Sequence[Any]) -> Any:
    """The inverse of `flatten_composites`: leaves as in `structure`, with the tensors of `flat`."""
    rest = iter(flat)

    def leaf(old: Any) -> Any:
        parts = parts_of(old)
        if parts is None:
            return next(rest)
        new = [next(rest) for _ in parts]
        if isinstance(old, IndexedSlices):
            return IndexedSlices(*new)
        return old._with_parts(new)

    return nest.map_structure(leaf, structure)


def as_tensor(value: Any, what: str) -> Any:
    """`value` as a tensor inside the body that is being built; None for an operation's result stays None."""
    if isinstance(value, Tensor):
        return value
    try:
        return convert.convert_to_tensor(value)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{what} must give tensors or what can be converted to them, got {value!r}: {error}"
        ) from None


# ---- cond


class _Branch:
    """A branch of a conditional, built as a body."""

    def __init__(self, kind: bool, graph: Graph, function: Callable[[], Any], strict: bool) -> None:
        name = _body_name(graph, "true" if kind else "false")
        self.graph = FuncGraph(unique_function_name(graph, name), graph)
        self.graph.place = "true_fn" if kind else "false_fn"
        self._kind = kind
        with self.graph.as_default():
            result = function()
            self.structure, self.is_nothing = self._finish(result if strict else _unpacked(result))

    def _finish(self, result: Any) -> tuple[Any, bool]:
        if result is None:
            return None, True
        structure = (
            nest.map_structure(self._leaf, result) if nest.is_nested(result) else self._leaf(result)
        )
        self.graph.outputs = [self._output(t) for t in flatten_composites(structure)]
        return structure, False

    def _leaf(self, value: Any) -> Any:
        if isinstance(value, Operation):
            # The branch's effect is what matters; its value says which branch it was, as in TensorFlow.
            with self.graph.control_dependencies([value]):
                return raw.Identity(convert.constant_from_value(self._kind, dtypes.bool, None))
        if parts_of(value) is not None:
            return value
        return as_tensor(value, "a branch of a conditional")

    def _output(self, tensor: Any) -> Tensor:
        tensor = as_tensor(tensor, "a branch of a conditional")
        tensor = self.graph.capture(tensor)
        if tensor._dtype.is_ref_dtype:
            with self.graph.as_default():
                tensor = raw.Identity(tensor)
        return tensor


@export("cond")
def cond(
    pred: Any,
    true_fn: Callable[[], Any] | None = None,
    false_fn: Callable[[], Any] | None = None,
    strict: bool = False,
    name: str | None = None,
    fn1: Any = None,
    fn2: Any = None,
) -> Any:
    """The results of `true_fn()` where `pred` holds when the graph runs, else those of `false_fn()`; only one runs.

    pred: scalar bool tensor. Both functions give the same structure of tensors with the same types; a list of
    one tensor is
    unpacked unless `strict`. What they use of the graph around is computed before, whichever is taken.
    Raises TypeError: not callable, a Python bool. ValueError: different structures or types.
    """
    true_fn = _one_of(true_fn, fn1, "true_fn")
    false_fn = _one_of(false_fn, fn2, "false_fn")
    with name_scope(name, "cond", [pred]):
        if isinstance(pred, (bool, np.bool_)):
            raise TypeError("pred must not be a Python bool")
        graph = default.get_default_graph()
        pred = convert.convert_to_tensor(pred)
        if pred.dtype.base_dtype != dtypes.bool:
            raise TypeError(f"pred must be a scalar bool tensor, got {pred.dtype.name}")
        if pred._dims is not None and len(pred._dims):
            raise ValueError(f"Shape must be rank 0 but is rank {len(pred._dims)}: pred {pred}")
        branches = [
            _Branch(True, graph, true_fn, strict),
            _Branch(False, graph, false_fn, strict),
        ]
        return _choose(graph, pred, branches)


def _one_of(new: Any, old: Any, name: str) -> Callable[[], Any]:
    if old is not None:
        if new is not None:
            raise TypeError(
                "cond(): true_fn and fn1 (false_fn and fn2) may not be set simultaneously."
            )
        new = old
    if not callable(new):
        raise TypeError(f"{name} must be callable.")
    return new


def _unpacked(result: Any) -> Any:
    """The element of a list or tuple that has one."""
    return result[0] if isinstance(result, (list, tuple)) and len(result) == 1 else result


def _body_name(graph: Graph, kind: str) -> str:
    scope = graph.get_name_scope()
    return f"{scope}_{kind}" if scope else kind


def _check_composites(first: _Branch, other: _Branch) -> None:
    """Makes the indices of slices of one type. Raises TypeError: slices in one branch, a tensor in the other."""
    at = 0
    leaves = zip(nest.flatten(first.structure), nest.flatten(other.structure), strict=True)
    for number, (a, b) in enumerate(leaves):
        parts, others = parts_of(a), parts_of(b)
        if (parts is None) != (others is None):
            raise TypeError(
                f"Cannot reconcile tf.cond {number}-th outputs: true_fn returned {a}, false_fn returned {b}"
            )
        if isinstance(a, IndexedSlices) and isinstance(b, IndexedSlices):
            both = [branch.graph.outputs[at + 1] for branch in (first, other)]
            if {t._dtype for t in both} == {dtypes.int32, dtypes.int64}:
                for branch, indices in zip((first, other), both, strict=True):
                    with branch.graph.as_default():
                        branch.graph.outputs[at + 1] = raw.Cast(indices, DstT=dtypes.int64)
        at += 1 if parts is None else len(parts)


def _check_same(first: _Branch, other: _Branch, names: tuple[str, str]) -> None:
    if first.is_nothing or other.is_nothing:
        if first.is_nothing != other.is_nothing:
            raise ValueError(
                f"{names[0]} and {names[1]} must either both return None or both return values."
            )
        return
    try:
        nest.assert_same_structure(first.structure, other.structure)
    except (ValueError, TypeError) as error:
        raise type(error)(
            f"Incompatible return values of {names[0]} and {names[1]}: {error}"
        ) from None
    _check_composites(first, other)
    for i, (a, b) in enumerate(zip(first.graph.outputs, other.graph.outputs, strict=True)):
        if a._dtype.base_dtype != b._dtype.base_dtype:
            raise ValueError(
                f"Outputs of {names[0]} and {names[1]} must have the same type(s): output {i} is {a._dtype.name} and "
                f"{b._dtype.name}."
            )


def _choose(graph: Graph, pred: Tensor, branches: list[_Branch]) -> Any:
    """Adds the `If` for two finished branches."""
    true, false = branches
    _check_same(true, false, ("true_fn", "false_fn"))
    read_inside([true.graph, false.graph])
    captured = share_captures([true.graph, false.graph])
    dims = [
        common_shape(a._dims, b._dims)
        for a, b in zip(true.graph.outputs, false.graph.outputs, strict=True)
    ]
    waits = [op for b in branches for op in b.graph.outer_control_inputs]
    with graph.control_dependencies(waits):
        op = call_op(
            "If",
            {"cond": pred, "input": captured},
            {
                "then_branch": new_function(true.graph),
                "else_branch": new_function(false.graph),
                "Tout": [t._dtype.base_dtype for t in true.graph.outputs],
                "output_shapes": [TensorShape.of(d) for d in dims],
            },
        )
    if true.is_nothing:
        return op
    return pack_composites(true.structure, op.outputs)


def call_op(
    op_type: str, inputs: dict[str, Any], attrs: dict[str, Any], name: str | None = None
) -> Operation:
    """Adds a node that calls functions. References among its inputs stay references."""
    from headrace.graph.op_def import lookup

    definition = lookup(op_type)
    graph = default.get_default_graph()
    flat: list[Tensor] = []
    values = dict(attrs)
    for argument in definition.signature.inputs:
        value = inputs[argument.name]
        if argument.is_list:
            flat += value
            values[str(argument.type_list_attr)] = [t._dtype.base_dtype for t in value]
        else:
            flat.append(value)
    flat = [graph.capture(t) if t.graph is not graph else t for t in flat]  # type: ignore[attr-defined]
    return raw.build_from_parts(graph, definition, flat, values, name)


def share_captures(bodies: Sequence[FuncGraph]) -> list[Tensor]:
    """Makes bodies that are called with the same inputs capture the same tensors in one order; returns these."""
    outer: dict[Tensor, None] = {}
    for body in bodies:
        outer.update(dict.fromkeys(body.captures))
    for body in bodies:
        own = [t for t in body.inputs if t not in set(body.captures.values())]
        for tensor in outer:
            body.capture(tensor)
        body.inputs = own + [body.captures[t] for t in outer]
    return list(outer)


def common_shape(a: Dims, b: Dims) -> Dims:
    """What is true of both shapes."""
    if a is None or b is None or len(a) != len(b):
        return None
    return tuple(x if x == y else None for x, y in zip(a, b, strict=True))


# ---- case, switch_case


@export("case")
def case(
    pred_fn_pairs: Any,
    default: Any = None,
    exclusive: bool = False,
    strict: bool = False,
    name: str = "case",
) -> Any:
    """The results of the function whose predicate is the first to hold, or of `default`.

    pred_fn_pairs: a list of (scalar bool tensor, function) pairs, or a dictionary. exclusive: the run fails
    where more than
    one holds. Without a default, the run fails where none holds.
    Raises TypeError: not such pairs.
    """
    if isinstance(pred_fn_pairs, dict):
        pairs = list(pred_fn_pairs.items())
        if not isinstance(pred_fn_pairs, collections.OrderedDict):
            pairs.sort(key=lambda item: item[0].name)
    elif isinstance(pred_fn_pairs, (list, tuple)):
        pairs = list(pred_fn_pairs)
    else:
        raise TypeError("fns must be a list, tuple, or dict")
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError("Each entry in pred_fn_pairs must be a 2-tuple")
        if not isinstance(pair[0], Tensor) and not hasattr(pair[0], "_as_graph_element"):
            raise TypeError(f"pred must be Tensor, got {type(pair[0]).__name__}")
        if not callable(pair[1]):
            raise TypeError(f"fn for pred {pair[0]} must be callable.")
    if default is not None and not callable(default):
        raise TypeError("default must be callable.")
    with name_scope(name, "case", [p for p, _ in pairs]):
        predicates = [convert.convert_to_tensor(p) for p, _ in pairs]
        guards: list[Any] = []
        stacked = raw.Pack(predicates, axis=0) if predicates else None
        if exclusive and len(pairs) > 1:
            count = raw.Sum(raw.Cast(stacked, DstT=dtypes.int32), np.array([0], np.int32))
            names = ", ".join(p.name for p in predicates)
            guards.append(
                raw.Assert(
                    raw.LessEqual(count, 1),
                    [f"Input error: more than one predicate holds among {names}", stacked],
                )
            )
        if default is None:
            *pairs, (_, default) = pairs
            names = ", ".join(p.name for p in predicates)
            guards.append(
                raw.Assert(
                    raw.Any(stacked, np.array([0], np.int32)),  # type: ignore[operator] - the op
                    [
                        f"Input error: None of conditions evaluated as True. Conditions: {names}, Values:",
                        stacked,
                    ],
                )
            )
        with _graph().control_dependencies(guards):
            function = default
            for predicate, action in reversed(pairs):
                function = functools.partial(_cond_of_case, predicate, action, function, strict)
            if not pairs:
                return function()
            return function()


def _graph() -> Graph:
    from headrace.graph.default import get_default_graph

    return get_default_graph()


def _cond_of_case(predicate: Any, action: Any, otherwise: Any, strict: bool) -> Any:
    return cond(predicate, action, otherwise, strict=strict, name="cond")


@export("switch_case")
def switch_case(
    branch_index: Any, branch_fns: Any, default: Any = None, name: str = "switch_case"
) -> Any:
    """The results of the function with number `branch_index`, or of `default` (the last function) for any other number.

    branch_fns: a list of functions, a dictionary or a list of pairs from numbers to functions.
    Raises TypeError, ValueError: not such functions.
    """
    if isinstance(branch_fns, dict):
        numbered = sorted(branch_fns.items())
    elif not isinstance(branch_fns, (list, tuple)):
        raise TypeError("branch_fns must be a list, tuple, or dict")
    elif branch_fns and all(callable(f) for f in branch_fns):
        numbered = list(enumerate(branch_fns))
    else:
        numbered = list(branch_fns)
    if not numbered:
        raise ValueError("branch_fns must not be empty")
    for entry in numbered:
        if not (isinstance(entry, tuple) and len(entry) == 2):
            raise TypeError("Each entry in branch_fns must be a 2-tuple")
        if not isinstance(entry[0], int):
            raise TypeError(f"key must be a Python `int`, got {type(entry[0]).__name__}")
        if not callable(entry[1]):
            raise TypeError(f"fn for key {entry[0]} must be callable.")
    if sorted(k for k, _ in numbered) != list(range(len(numbered))):
        raise ValueError(
            f"branch indices must form contiguous range of [0 to {len(numbered)}) but found "
            f"{{{sorted(k for k, _ in numbered)}}}"
        )
    if not isinstance(branch_index, Tensor) and not hasattr(branch_index, "_as_graph_element"):
        raise TypeError(f"branch_index must a Tensor, got {type(branch_index)}")
    if default is None:
        *numbered, (_, default) = sorted(numbered)
    with name_scope(name, "switch_case", [branch_index]):
        index = convert.convert_to_tensor(branch_index, name="branch_index")
        function = default
        for number, action in reversed(numbered):
            predicate = raw.Equal(
                index, convert.constant_from_value(number, index.dtype.base_dtype, None)
            )
            function = functools.partial(_cond_of_case, predicate, action, function, False)
        return function()


# ---- while_loop


@export("while_loop")
def while_loop(
    cond: Callable[..., Any],
    body: Callable[..., Any],
    loop_vars: Any,
    shape_invariants: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    name: str | None = None,
    maximum_iterations: Any = None,
    return_same_structure: bool = False,
) -> Any:
    """Repeats `loop_vars = body(*loop_vars)` while `cond(*loop_vars)` holds; returns the last loop variables.

    loop_vars: nested structures of tensors, TensorArrays, IndexedSlices. shape_invariants: for each of them
    the shape that
    holds in every iteration, where that is less than its first shape. maximum_iterations: a limit, None for none.
    parallel_iterations, swap_memory: accepted; XLA decides about them. back_prop: False makes gradients stop here.
    Raises TypeError: not callable. ValueError: no loop variables, a body that returns another structure, a shape that
    changes against its invariant.
    """
    if not loop_vars:
        raise ValueError("No loop variables provided")
    if not callable(cond):
        raise TypeError("cond must be callable.")
    if not callable(body):
        raise TypeError("body must be callable.")
    if parallel_iterations < 1:
        raise TypeError("parallel_iterations must be a positive integer.")
    with name_scope(name, "while", None):
        if maximum_iterations is not None:
            maximum_iterations = convert.convert_to_tensor(
                maximum_iterations, name="maximum_iterations"
            )
            if maximum_iterations._dims is not None and len(maximum_iterations._dims):
                raise ValueError(
                    f"maximum_iterations must be a scalar, saw shape: {maximum_iterations.shape}"
                )
        builder = _Loop(
            cond,
            body,
            loop_vars,
            shape_invariants,
            maximum_iterations,
            back_prop,
            parallel_iterations,
        )
        result = builder.finish()
    # As TensorFlow does: one tensor comes without its list, and where iterations are limited one structure too.
    count = len(builder.start if maximum_iterations is None else builder.arguments)
    return result[0] if count == 1 and not return_same_structure else result


class _Loop:
    """A `While` under construction: the loop variables, the condition and the body as functions."""

    def __init__(
        self,
        cond: Callable[..., Any],
        body: Callable[..., Any],
        loop_vars: Any,
        shape_invariants: Any,
        limit: Tensor | None,
        back_prop: bool,
        parallel_iterations: int,
    ) -> None:
        self.graph = default.get_default_graph()
        self.limit, self.back_prop, self.parallel_iterations = limit, back_prop, parallel_iterations
        self.arguments = loop_vars if isinstance(loop_vars, (list, tuple)) else [loop_vars]
        start = nest.map_structure(
            lambda v: v if parts_of(v) is not None else _loop_variable(v), list(self.arguments)
        )
        self.structure = start
        flat = [_loop_variable(t) for t in flatten_composites(start)]
        self.start = flat
        self.dims = self._invariants(shape_invariants)
        if limit is not None:
            count = convert.constant_from_value(0, limit.dtype.base_dtype, "loop_counter")
            self.flat, self.all_dims = [count, *flat], [(), *self.dims]
        else:
            self.flat, self.all_dims = flat, list(self.dims)
        self.cond_graph = self._body_of("cond", lambda *v: self._condition(cond, v))
        self.body_graph = self._body_of("body", lambda *v: self._iteration(body, v))
        self._check_shapes()

    def _invariants(self, shape_invariants: Any) -> list[Dims]:
        given = [t._dims for t in self.start]
        if shape_invariants is None:
            return [self._default_invariant(leaf, t, d) for leaf, t, d in self._leaves_of(given)]
        nest.assert_shallow_structure(list(self.arguments), list(shape_invariants))
        flat = []
        for leaf, invariant in zip(
            nest.flatten(self.structure),
            nest.flatten_up_to(self.structure, list(shape_invariants)),
            strict=True,
        ):
            parts = parts_of(leaf)
            if parts is None:
                given = invariant.shape if isinstance(invariant, TensorSpec) else invariant
                flat.append(as_shape(given)._dims)
            else:
                flat += self._composite_invariant(leaf, parts, invariant)
        for tensor, dims in zip(self.start, flat, strict=True):
            if dims is not None and not TensorShape.of(tensor._dims).is_compatible_with(
                TensorShape.of(dims)
            ):
                raise ValueError(
                    f"The shape invariant specified for {tensor.name} is not compatible with the initial "
                    f"shape of the loop "
                    f"variable. It enters the loop with shape {tensor.shape}, but the specified shape invariant is "
                    f"{TensorShape.of(dims)}."
                )
        return flat

    def _leaves_of(self, dims: list[Dims]) -> list[tuple[Any, Tensor, Dims]]:
        found = []
        at = 0
        for leaf in nest.flatten(self.structure):
            parts = parts_of(leaf)
            count = 1 if parts is None else len(parts)
            for _ in range(count):
                found.append((leaf if parts is not None else None, self.start[at], dims[at]))
                at += 1
        return found

    @staticmethod
    def _default_invariant(leaf: Any, tensor: Tensor, dims: Dims) -> Dims:
        if leaf is None:
            return dims
        method = getattr(leaf, "_loop_invariant", None)
        return dims if method is None else method(tensor)

    @staticmethod
    def _composite_invariant(leaf: Any, parts: list[Any], invariant: Any) -> list[Dims]:
        method = getattr(leaf, "_loop_invariants_from", None)
        if method is not None:
            return method(invariant)
        dims = as_shape(invariant)._dims
        if isinstance(leaf, IndexedSlices):
            rest = None if dims is None else (None, *dims[1:])
            return [rest, (None,), None if dims is None else (len(dims),)][: len(parts)]
        return [dims, *(p._dims for p in parts[1:])]

    def _body_of(self, kind: str, build: Callable[..., Any]) -> FuncGraph:
        name = unique_function_name(self.graph, _body_name(self.graph, kind))
        graph = FuncGraph(name, self.graph)
        graph.place = "a while loop"
        with graph.as_default():
            inputs = []
            for tensor, dims in zip(self.flat, self.all_dims, strict=True):
                inner = graph.add_input(
                    tensor._dtype.base_dtype, dims, tensor._op._name.rpartition("/")[2]
                )
                copy_notes(tensor, inner)
                if tensor._dtype is dtypes.resource:
                    inner._captured_from = tensor  # type: ignore[attr-defined]
                inputs.append(inner)
            outputs = build(*inputs)
            graph.outputs = [graph.capture(t) for t in outputs]
        # Later bodies must not take the same names.
        self.graph._names_in_use.update(graph._names_in_use)
        return graph

    def _arguments(self, flat: Sequence[Tensor]) -> Any:
        return pack_composites(self.structure, flat)

    def _condition(self, cond: Callable[..., Any], inputs: tuple[Tensor, ...]) -> list[Tensor]:
        values = inputs[1:] if self.limit is not None else inputs
        answer = convert.convert_to_tensor(cond(*self._arguments(values)))
        if answer._dtype.base_dtype != dtypes.bool:
            raise TypeError(
                f"the condition of a loop must be a bool, got {answer._dtype.name}: {answer}"
            )
        if self.limit is not None:
            answer = raw.LogicalAnd(raw.Less(inputs[0], self.limit), answer)
        return [answer]

    def _iteration(self, body: Callable[..., Any], inputs: tuple[Tensor, ...]) -> list[Tensor]:
        values = inputs[1:] if self.limit is not None else inputs
        result = body(*self._arguments(values))
        self.container = type(result) if isinstance(result, (list, tuple)) else list
        if not isinstance(result, (list, tuple)) or hasattr(result, "_fields"):
            if len(self.arguments) == 1 or not nest.is_nested(result):
                result, self.container = [result], list
        if len(self.arguments) == 1 and not _same(
            self.structure, list(result) if isinstance(result, (list, tuple)) else result
        ):
            result, self.container = [result], list
        try:
            nest.assert_same_structure(
                self.structure, list(result) if isinstance(result, (list, tuple)) else result
            )
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"The body of the loop returned another structure than its loop variables. {error}"
            ) from None
        self.last = nest.flatten(list(result))
        new = [
            _loop_result(t, old)
            for t, old in zip(flatten_composites(list(result)), self.start, strict=True)
        ]
        if self.limit is not None:
            step = raw.Add(
                inputs[0], convert.constant_from_value(1, inputs[0]._dtype.base_dtype, None)
            )
            return [step, *new]
        return new

    def _check_shapes(self) -> None:
        loop = zip(self.flat, self.body_graph.inputs, self.body_graph.outputs, strict=False)
        for outer, into, out in loop:
            before, after = into._dims, out._dims
            if before is None or into._dtype.base_dtype in (dtypes.resource, dtypes.variant):
                continue
            fits = after is not None and len(after) == len(before)
            fits = fits and all(b is None or b == a for b, a in zip(before, after, strict=True))  # type: ignore[arg-type]
            if not fits:
                raise ValueError(
                    f"Input tensor '{outer.name}' enters the loop with shape "
                    f"{TensorShape.of(before)}, but has shape "
                    f"{TensorShape.of(after)} after one iteration. To allow the shape to vary across "
                    f"iterations, use the "
                    "`shape_invariants` argument of tf.while_loop to specify a less-specific shape."
                )

    def finish(self) -> Any:
        """Adds the `While` and returns the loop variables after the last iteration."""
        read_inside([self.cond_graph, self.body_graph])
        captured = share_captures([self.cond_graph, self.body_graph])
        self.body_graph.outputs += [self.body_graph.captures[t] for t in captured]
        count = len(self.flat)
        waits = [*self.cond_graph.outer_control_inputs, *self.body_graph.outer_control_inputs]
        shapes = [TensorShape.of(d) for d in self.all_dims] + [
            TensorShape.of(t._dims) for t in captured
        ]
        with self.graph.control_dependencies(waits):
            op = call_op(
                "While",
                {"input": [*self.flat, *captured]},
                {
                    "cond": new_function(self.cond_graph),
                    "body": new_function(self.body_graph),
                    "output_shapes": shapes,
                    "parallel_iterations": self.parallel_iterations,
                },
            )
        if not self.back_prop:
            op._set_attr_value("_stop_gradient", True)
        for outer, out in zip(self.flat, op.outputs, strict=False):
            copy_notes(outer, out)
        outputs = op.outputs[:count]
        if self.limit is not None:
            outputs = outputs[1:]
        outputs = [
            raw.Identity(t, name=f"Exit_{i}" if i else "Exit") if _has_value(t) else t
            for i, t in enumerate(outputs)
        ]
        result = pack_composites(self.structure, outputs)
        for leaf, last in zip(nest.flatten(result), self.last, strict=True):
            learn = getattr(leaf, "_learn_from", None)
            if learn is not None:
                learn(last)
        # The outermost structure is that of what the body returns.
        return (
            self.container(*result)
            if hasattr(self.container, "_fields")
            else self.container(result)
        )


def copy_notes(source: Tensor, target: Tensor) -> None:
    """Gives `target` what is noted on `source`; not where that was captured from, since loop variables change."""
    if source._extra is not None:
        for key, value in source._extra.items():
            if key != "_captured_from":
                setattr(target, key, value)


def _has_value(tensor: Tensor) -> bool:
    return tensor._dtype not in (dtypes.resource, dtypes.variant)


def _same(a: Any, b: Any) -> bool:
    try:
        nest.assert_same_structure(a, b)
    except (ValueError, TypeError):
        return False
    return True


def _loop_variable(value: Any) -> Any:
    if parts_of(value) is not None:
        return value
    tensor = convert.convert_to_tensor(value)
    return raw.Identity(tensor) if tensor._dtype.is_ref_dtype else tensor


def _loop_result(value: Any, old: Tensor) -> Tensor:
    tensor = convert.convert_to_tensor(
        value, None if isinstance(value, Tensor) else old._dtype.base_dtype
    )
    if tensor._dtype.is_ref_dtype:
        tensor = raw.Identity(tensor)
    if tensor._dtype.base_dtype != old._dtype.base_dtype:
        raise TypeError(
            f"A loop variable of type {old._dtype.base_dtype.name} ({old.name}) is "
            f"{tensor._dtype.base_dtype.name} after an "
            "iteration."
        )
    return tensor


def static_predicate(pred: Any) -> bool | None:
    """The value of a predicate if it is known while the graph is built, else None (`tf.contrib.framework.smart_cond`)."""
    if isinstance(pred, (bool, np.bool_)):
        return bool(pred)
    if isinstance(pred, (int, np.integer)) and pred in (0, 1):
        return bool(pred)
    if isinstance(pred, Tensor):
        value = constant_value(pred)
        return None if value is None else bool(value)
    raise TypeError(
        f"`pred` must be a Tensor, or a Python bool, or 1 or 0. Found instead: {type(pred)}"
    )
