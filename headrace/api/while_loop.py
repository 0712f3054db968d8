"""`tf.while_loop`: a condition and a body, which run again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from headrace.api.composites import flatten_composites, pack_composites, parts_of
from headrace.api.export import export
from headrace.api.framework import name_scope
from headrace.api.fresh_reads import read_inside
from headrace.api.function_bodies import body_name, call_op, copy_notes, has_value, share_captures
from headrace.core import dtypes, nest
from headrace.core.tensor_shape import TensorShape, as_shape
from headrace.graph import convert, default, raw
from headrace.graph.func_graph import FuncGraph, new_function, unique_function_name
from headrace.graph.indexed_slices import IndexedSlices
from headrace.graph.ordered_graph import new_body
from headrace.graph.tensor import Dims, Tensor
from headrace.graph.type_spec import TensorSpec, TypeSpec


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
            if isinstance(invariant, TypeSpec):
                flat += _dims_of_spec(leaf, [leaf] if parts is None else parts, invariant)
            elif parts is None:
                flat.append(as_shape(invariant)._dims)
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
        name = unique_function_name(self.graph, body_name(self.graph, kind))
        graph = new_body(name, self.graph)
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
            raw.Identity(t, name=f"Exit_{i}" if i else "Exit") if has_value(t) else t
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


def _same(a: Any, b: Any) -> bool:
    try:
        nest.assert_same_structure(a, b)
    except (ValueError, TypeError):
        return False
    return True


def _dims_of_spec(leaf: Any, parts: Sequence[Any], spec: TypeSpec) -> list[Dims]:
    """The static shapes of the parts of a loop variable. Raises TypeError: `spec` describes another kind or type."""
    components: Any = [spec] if isinstance(spec, TensorSpec) else list(spec._component_specs)
    if not isinstance(leaf, spec.value_type) or [c.dtype for c in components] != [
        p._dtype.base_dtype for p in parts
    ]:
        raise TypeError(f"Invalid shape invariant {spec!r} for the loop variable {leaf!r}")
    return [c.shape._dims for c in components]


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
            f"Loop var {old.name} enters the loop with type {old._dtype.base_dtype} but has type "
            f"{tensor._dtype.base_dtype} after 1 iteration."
        )
    return tensor
