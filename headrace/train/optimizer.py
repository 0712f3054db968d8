"""`tf.train.Optimizer`: gradients of a loss, and the operations that apply them to variables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tensorboard.compat.proto.attr_value_pb2 import AttrValue

from headrace.api import math_ops
from headrace.api import variables as variable_lists
from headrace.api.control_flow_basic import group
from headrace.api.control_flow_basic import tuple as all_or_none
from headrace.api.export import export
from headrace.api.framework import GraphKeys, name_scope
from headrace.api.gradients import gradients
from headrace.api.resource_variable import BaseResourceVariable
from headrace.api.variable_base import Variable
from headrace.core import dtypes
from headrace.distribute import context as distribution
from headrace.distribute.context import ReduceOp
from headrace.distribute.values import value_container
from headrace.graph import convert, default, raw
from headrace.graph.indexed_slices import IndexedSlices
from headrace.graph.op_def import PADDED
from headrace.graph.tensor import Tensor
from headrace.train import slot_creator


def row_by_row(update: Callable[..., Any]) -> Callable[..., Any]:
    """Marks an update of rows that does the same to each of them and looks at nothing else of the gradient.

    Then it does no harm if more rows are named, of which the variable has none; and the number of different rows, which
    only the run tells, need not be known to compile the step.
    """
    update.is_row_by_row = True  # type: ignore[attr-defined]
    return update


def sum_repeated_rows(slices: IndexedSlices, padded: bool = False) -> IndexedSlices:
    """Slices in which each row occurs once: what repeated rows say is added up.

    padded: where the program prefers it, there are still as many rows, those left over being no rows of the variable.
    """
    attrs = {PADDED: AttrValue(b=True)} if padded else {}
    with default.get_default_graph()._attr_scope(attrs):
        unique, place = raw.Unique(slices.indices)
    count = raw.Shape(unique)[0]
    return IndexedSlices(
        raw.UnsortedSegmentSum(slices.values, place, count), unique, slices.dense_shape
    )


class _Target:
    """How an optimizer reaches one variable: what the gradient is taken of, and how it is updated."""

    def __init__(self, variable: Any) -> None:
        self.variable = variable
        if not isinstance(variable, (Variable, Tensor)) and not hasattr(
            variable, "_as_graph_element"
        ):
            raise NotImplementedError(f"Trying to optimize unsupported type {variable}")

    def target(self) -> Any:
        """What the gradient is taken of."""
        variable = self.variable
        if isinstance(variable, BaseResourceVariable):
            return variable.handle
        if isinstance(variable, Variable):
            return variable._ref()
        return variable

    def update(self, optimizer: Optimizer, grad: Any) -> Any:
        """The operation that applies `grad`."""
        variable = self.variable
        constraint = getattr(variable, "constraint", None)
        if isinstance(variable, BaseResourceVariable):
            if isinstance(grad, IndexedSlices):
                self._refuse(constraint)
                return optimizer._resource_apply_sparse_duplicate_indices(
                    grad.values, variable, grad.indices
                )
            update = optimizer._resource_apply_dense(grad, variable)
        elif isinstance(variable, Tensor):
            raise NotImplementedError("Trying to update a Tensor ", variable)
        elif isinstance(grad, IndexedSlices):
            self._refuse(constraint)
            return optimizer._apply_sparse_duplicate_indices(grad, variable)
        else:
            update = optimizer._apply_dense(grad, variable)
        if constraint is None:
            return update
        with default.get_default_graph().control_dependencies([update]):
            return variable.assign(constraint(variable))

    @staticmethod
    def _refuse(constraint: Any) -> None:
        if constraint is not None:
            raise RuntimeError("Cannot use a constraint function on a sparse variable.")


def _var_key(variable: Any) -> tuple[Any, str]:
    # The copies of a variable, of which every device has one, share their slots' key.
    container = value_container(variable)
    op = getattr(container, "primary", container).op
    return (op.graph, op.name)


@export("train.Optimizer")
class Optimizer:
    """Base class of optimizers. Use a subclass: `GradientDescentOptimizer(0.1).minimize(loss)`.

    A new optimizer implements `_prepare`, `_create_slots`, `_apply_dense`, `_apply_sparse` and their `_resource` forms.
    """

    GATE_NONE = 0
    GATE_OP = 1
    GATE_GRAPH = 2

    def __init__(self, use_locking: bool, name: str) -> None:
        if not name:
            raise ValueError("Must specify the optimizer name")
        self._use_locking = use_locking
        self._name = name
        self._slots: dict[str, dict[Any, Any]] = {}
        self._non_slot_dict: dict[Any, Any] = {}

    def get_name(self) -> str:
        """The name of the optimizer."""
        return self._name

    # ---- the public steps

    def minimize(
        self,
        loss: Any,
        global_step: Any = None,
        var_list: Any = None,
        gate_gradients: int = GATE_OP,
        aggregation_method: Any = None,
        colocate_gradients_with_ops: bool = False,
        name: str | None = None,
        grad_loss: Any = None,
    ) -> Any:
        """An operation that updates `var_list` (all trainable variables) to make `loss` smaller.

        global_step: a variable that each update increments. Raises ValueError: nothing to update, or no gradient.
        """
        pairs = self.compute_gradients(
            loss,
            var_list,
            gate_gradients,
            aggregation_method,
            colocate_gradients_with_ops,
            grad_loss,
        )
        if not any(g is not None for g, _ in pairs):
            where = "" if callable(loss) else loss.op._site_line()
            raise ValueError(
                "No gradients provided for any variable, check your graph for ops that do not support gradients, "
                f"between variables {[str(v) for _, v in pairs]} and loss {loss}.{where}"
            )
        return self.apply_gradients(pairs, global_step=global_step, name=name)

    def compute_gradients(
        self,
        loss: Any,
        var_list: Any = None,
        gate_gradients: int = GATE_OP,
        aggregation_method: Any = None,
        colocate_gradients_with_ops: bool = False,
        grad_loss: Any = None,
    ) -> list[tuple[Any, Any]]:
        """(gradient, variable) pairs for `loss`; the gradient is a tensor, IndexedSlices, or None.

        gate_gradients: GATE_NONE, GATE_OP (all gradients of an operation before any is used), GATE_GRAPH (all of all).
        Raises TypeError: a variable of another kind. ValueError: no variables, or an unknown gate.
        """
        if callable(loss) and not isinstance(loss, Tensor):
            loss = loss()
        if gate_gradients not in (Optimizer.GATE_NONE, Optimizer.GATE_OP, Optimizer.GATE_GRAPH):
            raise ValueError(
                "gate_gradients must be one of: Optimizer.GATE_NONE, Optimizer.GATE_OP, Optimizer.GATE_GRAPH. "
                f"Not {gate_gradients}"
            )
        self._assert_valid_dtypes([loss])
        if grad_loss is not None:
            self._assert_valid_dtypes([grad_loss])
        if var_list is None:
            var_list = (
                variable_lists.trainable_variables()
                + default.get_default_graph().get_collection(GraphKeys.TRAINABLE_RESOURCE_VARIABLES)
            )
        else:
            var_list = _flat_variables(var_list)
        targets = [_Target(v) for v in var_list]
        if not var_list:
            raise ValueError("No variables to optimize.")
        grads = gradients(
            loss,
            [t.target() for t in targets],
            grad_ys=grad_loss,
            gate_gradients=gate_gradients == Optimizer.GATE_OP,
            aggregation_method=aggregation_method,
            colocate_gradients_with_ops=colocate_gradients_with_ops,
        )
        if gate_gradients == Optimizer.GATE_GRAPH:
            grads = all_or_none(grads)
        pairs = list(zip(grads, var_list, strict=True))
        self._assert_valid_dtypes(
            [v for g, v in pairs if g is not None and v.dtype.base_dtype is not dtypes.resource]
        )
        return pairs

    def apply_gradients(
        self, grads_and_vars: Iterable[Any], global_step: Any = None, name: str | None = None
    ) -> Any:
        """An operation that applies the (gradient, variable) pairs, and increments `global_step`.

        In a replica of a `tf.distribute.Strategy`, the gradients of all replicas are added up and applied once.
        Raises TypeError: not such pairs. ValueError: none, or no gradient among them. RuntimeError: in the scope of a
        strategy, but not in a replica.
        """
        pairs = tuple(grads_and_vars)
        if not pairs:
            raise ValueError("No variables provided.")
        if distribution.has_strategy():
            replica = distribution.get_replica_context()
            if replica is None:
                raise RuntimeError(
                    "apply_gradients() works in a replica: call it in the function given to "
                    "`strategy.experimental_run_v2`, not in a cross-replica context"
                )
            given = tuple((g, v) for g, v in pairs if g is not None)
            if not given:
                raise ValueError(
                    f"No gradients provided for any variable: {[str(v) for _, v in pairs]}."
                )
            return replica.merge_call(self._distributed_apply, (given, global_step, name))
        converted = []
        for grad, variable in pairs:
            if grad is not None:
                try:
                    grad = (
                        grad if isinstance(grad, IndexedSlices) else convert.convert_to_tensor(grad)
                    )
                except TypeError:
                    raise TypeError(
                        f"Gradient must be convertible to a Tensor or IndexedSlices, or None: {grad}"
                    ) from None
            converted.append((grad, variable, _Target(variable)))
        updated = [v for g, v, _ in converted if g is not None]
        if not updated:
            raise ValueError(
                f"No gradients provided for any variable: {[str(v) for _, v, _ in converted]}."
            )
        from headrace.graph.default import init_scope

        with init_scope():
            self._create_slots(updated)
        graph = default.get_default_graph()
        updates: list[Any] = []
        with name_scope(name, self._name) as scope:
            self._prepare()
            for grad, variable, target in converted:
                if grad is None:
                    continue
                with name_scope(f"update_{variable.op.name}"), graph.colocate_with(variable):
                    updates.append(target.update(self, grad))
            if global_step is None:
                apply_updates = self._finish(updates, scope)
            else:
                with (
                    graph.control_dependencies([self._finish(updates, "update")]),
                    graph.colocate_with(global_step),
                ):
                    if isinstance(global_step, BaseResourceVariable):
                        one = convert.constant_from_value(1, global_step.dtype.base_dtype, None)
                        apply_updates = raw.AssignAddVariableOp(global_step.handle, one, name=scope)
                    else:
                        apply_updates = raw.AssignAdd(
                            global_step._ref(), 1, use_locking=False, name=scope
                        )
            if isinstance(apply_updates, Tensor):
                apply_updates = apply_updates.op
            train_ops = graph.get_collection_ref(GraphKeys.TRAIN_OP)
            if apply_updates not in train_ops:
                train_ops.append(apply_updates)
            return apply_updates

    def _distributed_apply(
        self, strategy: Any, grads_and_vars: Iterable[Any], global_step: Any, name: str | None
    ) -> Any:
        """Adds up the gradients of the replicas and applies the sum to each copy of the variables."""
        pairs = list(grads_and_vars)
        variables = [v for _, v in pairs]
        sums = strategy.extended.batch_reduce_to(ReduceOp.SUM, pairs)
        with default.init_scope():
            self._create_slots(variables)
        graph = default.get_default_graph()

        def update(copy: Any, grad: Any) -> Any:
            with name_scope(f"update_{copy.op.name}"), graph.colocate_with(copy):
                return _Target(copy).update(self, grad)

        with name_scope(name, self._name) as scope:
            self._prepare()
            updates = []
            for total, variable in zip(sums, variables, strict=True):
                updates += strategy.extended.update(variable, update, (total,), group=False)
            places = strategy.extended.non_slot_devices(variables)
            finished = strategy.extended.update_non_slot(
                places, lambda: self._finish(updates, "update"), group=False
            )
            if global_step is None:
                applied = group(*finished, name=scope)
            else:
                with graph.control_dependencies(finished):
                    # The new step, a copy for each replica; whoever has one has waited for all updates.
                    applied = strategy.extended.update(global_step, lambda copy: copy.assign_add(1))
            train_ops = graph.get_collection_ref(GraphKeys.TRAIN_OP)
            if applied not in train_ops:
                train_ops.append(applied)
            return applied

    def get_slot(self, var: Any, name: str) -> Any:
        """The slot `name` of a variable, or None."""
        named = self._slots.get(name)
        return None if not named else named.get(_var_key(var))

    def get_slot_names(self) -> list[str]:
        """The names of the slots, sorted."""
        return sorted(self._slots)

    def variables(self) -> list[Any]:
        """The variables of the optimizer itself in the default graph: slots and others, by name."""
        graph = default.get_default_graph()
        found = [v for v in self._non_slot_variables() if v.op.graph is graph]
        found += [
            v for slots in self._slots.values() for v in slots.values() if v.op.graph is graph
        ]
        return sorted(found, key=lambda v: v.name)

    # ---- what a subclass implements

    def _valid_dtypes(self) -> set[Any]:
        return {dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float64}

    def _create_slots(self, var_list: list[Any]) -> None:
        """Makes the slots and other variables that the optimizer needs."""

    def _prepare(self) -> None:
        """Makes the tensors (of the learning rate, say) that all updates share."""

    def _apply_dense(self, grad: Any, var: Any) -> Any:
        """The update of a reference variable by a dense gradient."""
        raise NotImplementedError

    def _resource_apply_dense(self, grad: Any, handle: Any) -> Any:
        """The update of a resource variable by a dense gradient."""
        raise NotImplementedError

    def _apply_sparse(self, grad: IndexedSlices, var: Any) -> Any:
        """The update of a reference variable by slices without repeated rows."""
        raise NotImplementedError

    def _resource_apply_sparse(self, grad: Any, handle: Any, indices: Any) -> Any:
        """The update of a resource variable by slices without repeated rows."""
        raise NotImplementedError

    def _apply_sparse_duplicate_indices(self, grad: IndexedSlices, var: Any) -> Any:
        """The update of a reference variable by slices whose rows may repeat."""
        padded = self._goes_row_by_row("_apply_sparse")
        return self._apply_sparse(sum_repeated_rows(grad, padded), var)

    def _resource_apply_sparse_duplicate_indices(self, grad: Any, handle: Any, indices: Any) -> Any:
        """The update of a resource variable by slices whose rows may repeat."""
        padded = self._goes_row_by_row("_resource_apply_sparse")
        summed = sum_repeated_rows(IndexedSlices(grad, indices), padded)
        return self._resource_apply_sparse(summed.values, handle, summed.indices)

    def _goes_row_by_row(self, update: str) -> bool:
        used = [getattr(self, name, None) for name in (update, "_apply_sparse_shared")]
        return all(getattr(f, "is_row_by_row", False) for f in used if f is not None)

    def _finish(self, update_ops: list[Any], name_scope: str) -> Any:
        """The operation that is all updates together."""
        return group(*update_ops, name=name_scope)

    # ---- what subclasses use

    def _assert_valid_dtypes(self, tensors: Iterable[Any]) -> None:
        valid = self._valid_dtypes()
        for tensor in tensors:
            dtype = tensor.dtype.base_dtype
            if dtype not in valid:
                raise ValueError(
                    f"Invalid type {dtype!r} for {tensor.name}, expected: {list(valid)}."
                )

    def _call_if_callable(self, param: Any) -> Any:
        return param() if callable(param) else param

    def _slot_dict(self, slot_name: str) -> dict[Any, Any]:
        return self._slots.setdefault(slot_name, {})

    def _get_or_make_slot(self, var: Any, val: Any, slot_name: str, op_name: str) -> Any:
        named = self._slot_dict(slot_name)
        if _var_key(var) not in named:
            named[_var_key(var)] = slot_creator.create_slot(var, val, op_name)
        return named[_var_key(var)]

    def _get_or_make_slot_with_initializer(
        self, var: Any, initializer: Any, shape: Any, dtype: Any, slot_name: str, op_name: str
    ) -> Any:
        named = self._slot_dict(slot_name)
        if _var_key(var) not in named:
            named[_var_key(var)] = slot_creator.create_slot_with_initializer(
                var, initializer, shape, dtype, op_name
            )
        return named[_var_key(var)]

    def _zeros_slot(self, var: Any, slot_name: str, op_name: str) -> Any:
        named = self._slot_dict(slot_name)
        if _var_key(var) not in named:
            named[_var_key(var)] = slot_creator.create_zeros_slot(var, op_name)
        return named[_var_key(var)]

    def _create_non_slot_variable(self, initial_value: Any, name: str, colocate_with: Any) -> Any:
        graph = colocate_with.op.graph
        key = (name, graph)
        if key not in self._non_slot_dict:
            with distribution.get_strategy().extended.colocate_vars_with(colocate_with):
                self._non_slot_dict[key] = Variable(
                    initial_value,
                    name=name,
                    trainable=False,
                    use_resource=isinstance(colocate_with, BaseResourceVariable),
                )
        return self._non_slot_dict[key]

    def _get_non_slot_variable(self, name: str, graph: Any = None) -> Any:
        return self._non_slot_dict.get((name, graph))

    def _non_slot_variables(self) -> Iterable[Any]:
        return self._non_slot_dict.values()

    def _hyperparameter(self, value: Any, name: str) -> Tensor:
        """A hyperparameter (or what a function of the user gives for it) as a tensor."""
        return convert.convert_to_tensor(self._call_if_callable(value), name=name)


def cast(value: Any, like: Any) -> Any:
    """`value` in the type of the variable `like`."""
    return math_ops.cast(value, like.dtype.base_dtype)


def _flat_variables(var_list: Any) -> list[Any]:
    from headrace.core import nest

    flat: list[Any] = []
    for variable in nest.flatten(
        list(var_list) if isinstance(var_list, (list, tuple)) else [var_list]
    ):
        parts = getattr(variable, "_get_variable_list", None)
        flat += parts() if parts is not None else [variable]
    for variable in flat:
        if not isinstance(variable, (Variable, Tensor)):
            raise TypeError(f"Argument is not a tf.Variable: {variable}")
    return flat
