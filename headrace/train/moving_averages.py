"""Moving averages of variables and tensors, kept in variables beside them (`w/ExponentialMovingAverage`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from headrace.api import state_ops, variables
from headrace.api.control_flow_basic import group
from headrace.api.export import export
from headrace.api.framework import GraphKeys, name_scope
from headrace.api.get_variable import get_variable, get_variable_scope
from headrace.api.init_ops import Zeros
from headrace.api.math_ops import cast, div, truediv
from headrace.api.variable_base import Variable
from headrace.api.variable_scope import variable_scope
from headrace.core import dtypes
from headrace.distribute import context as distribution
from headrace.distribute.context import ReduceOp
from headrace.graph import default, raw
from headrace.graph.convert import convert_to_tensor
from headrace.graph.tensor import Tensor
from headrace.train import slot_creator


def assign_moving_average(
    variable: Any, value: Any, decay: Any, zero_debias: bool = True, name: str | None = None
) -> Any:
    """`variable -= (1 - decay) * (variable - value)`; gives the new average.

    zero_debias: the variable starts at zero, and its value is divided by how much of the average there is already
    (Kingma, Ba 2014: Adam, section 3); two more variables, `biased` and `local_step`, keep count.
    In a replica of a `tf.distribute.Strategy`, `value` is the mean of those of all replicas.
    """
    with name_scope(name, "AssignMovingAvg", [variable, value, decay]) as scope:
        rate = convert_to_tensor(1.0 - decay, name="decay")
        if rate.dtype != variable.dtype.base_dtype:
            rate = cast(rate, variable.dtype.base_dtype)
        if distribution.has_strategy():
            return _assign_copies(variable, value, rate, zero_debias)
        if zero_debias:
            return _assign_debiased(variable, value, rate)
        return state_ops.assign_sub(variable, (variable - value) * rate, name=scope)


def _assign_copies(variable: Any, value: Any, rate: Tensor, zero_debias: bool) -> Any:
    """The new averages of a variable of which every device has a copy."""

    def update(strategy: Any, variable: Any, value: Any) -> Any:
        def move(copy: Any, value: Any) -> Any:
            return copy.assign_sub((copy - value) * rate)

        def move_debiased(copy: Any, value: Any, biased: Any, steps: Any) -> Any:
            return copy.assign(_debiased(biased, steps, value, rate))

        if zero_debias:
            scope = variable.name[: -len(":0")]
            with variable_scope(scope, values=[variable, value, rate]):
                parts = _debiasing_variables(variable)
            return strategy.extended.update(variable, move_debiased, args=(value, *parts))
        return strategy.extended.update(variable, move, args=(value,))

    def merge(strategy: Any, variable: Any, value: Any) -> Any:
        mean = strategy.extended.reduce_to(ReduceOp.MEAN, value, variable)
        return update(strategy, variable, mean)

    replica = distribution.get_replica_context()
    if replica is None:
        return update(distribution.get_strategy(), variable, value)
    return replica.merge_call(merge, args=(variable, value))


def _assign_debiased(average: Any, value: Any, rate: Tensor) -> Any:
    graph = default.get_default_graph()
    with variable_scope(average.name[: -len(":0")], values=[average, value, rate]):
        with graph.colocate_with(average):
            biased, steps = _debiasing_variables(average)
    new_average = _debiased(biased, steps, value, rate)
    return state_ops.assign(average, new_average, name=f"{graph.get_name_scope()}/")


def _debiasing_variables(average: Any) -> tuple[Any, Any]:
    """The average as it would be without a correction, and the number of steps so far."""
    biased = get_variable(
        _unused_name("biased"),
        initializer=Zeros(),
        shape=average.get_shape(),
        dtype=average.dtype,
        trainable=False,
    )
    steps = get_variable(
        _unused_name("local_step"),
        shape=[],
        dtype=average.dtype,
        initializer=Zeros(),
        trainable=False,
    )
    return biased, steps


def _debiased(biased: Any, steps: Any, value: Any, rate: Tensor) -> Tensor:
    """Takes one more step, and gives the corrected average."""
    new_biased = state_ops.assign_sub(biased, (biased - value) * rate)
    new_steps = steps.assign_add(1)
    return new_biased / (1 - raw.Pow(1.0 - rate, new_steps))


def _unused_name(name: str) -> str:
    """`name`, with a number where the variable scope has such a variable already and makes new ones."""
    scope = get_variable_scope()
    if scope.reuse:
        return name
    taken = {v.op.name for v in scope.global_variables()}
    candidate, number = name, 0
    while f"{scope.name}/{candidate}" in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate


def weighted_moving_average(
    value: Tensor,
    decay: Any,
    weight: Tensor,
    truediv: bool = True,
    collections: Any = None,
    name: str | None = None,
) -> Tensor:
    """The moving average of `value * weight` over that of `weight`, both kept in variables.

    truediv: integers are divided as floats are. collections: those of the variables, GLOBAL_VARIABLES where None.
    """
    if collections is None:
        collections = [GraphKeys.GLOBAL_VARIABLES]
    with variable_scope(name, "WeightedMovingAvg", [value, weight, decay]) as scope:
        averages = []
        for short, new in (("value_x_weight", value), ("weight", weight)):
            average = get_variable(
                short,
                shape=new.get_shape(),
                dtype=new.dtype,
                initializer=Zeros(),
                trainable=False,
                collections=collections,
            )
            averages.append(average)
        numerator = assign_moving_average(averages[0], value * weight, decay, zero_debias=False)
        denominator = assign_moving_average(averages[1], weight, decay, zero_debias=False)
        return _quotient(numerator, denominator, truediv, scope.name)


def _quotient(x: Any, y: Any, is_true: bool, name: str) -> Tensor:
    return truediv(x, y, name=name) if is_true else div(x, y, name=name)


@export("train.ExponentialMovingAverage")
class ExponentialMovingAverage:
    """Keeps `average -= (1 - decay) * (average - variable)` for variables: often better to evaluate with than they are.

    decay: near 1. num_updates: a count of steps; the decay is then at most `(1 + num_updates) / (10 + num_updates)`, so
    that young averages move faster. zero_debias: averages of tensors, which start at zero, are corrected for that.
    The average of `w` is a variable `w/<name>`.
    """

    def __init__(
        self,
        decay: Any,
        num_updates: Any = None,
        zero_debias: bool = False,
        name: str = "ExponentialMovingAverage",
    ) -> None:
        self._decay, self._num_updates, self._zero_debias = decay, num_updates, zero_debias
        self._name = name
        # By identity: variables may compare by value.
        self._averages: dict[int, tuple[Any, Any]] = {}

    @property
    def name(self) -> str:
        """The name of the operations, and the last part of the averages' names."""
        return self._name

    def apply(self, var_list: Iterable[Any] | None = None) -> Any:
        """An operation that updates the averages of `var_list` (all trainable variables), which are made where missing.

        The average of a variable starts at its initial value, that of a tensor at zero.
        Raises TypeError: elements that are not of a floating type.
        """
        graph = default.get_default_graph()
        watched = variables.trainable_variables() if var_list is None else list(var_list)
        debiased = set()
        for value in watched:
            if value.dtype.base_dtype not in (
                dtypes.bfloat16,
                dtypes.float16,
                dtypes.float32,
                dtypes.float64,
            ):
                raise TypeError(f"The variables must be half, float, or double: {value.name}")
            if id(value) not in self._averages:
                self._averages[id(value)] = (value, self._make_average(value))
                if self._zero_debias and not isinstance(value, Variable):
                    debiased.add(id(value))
        with graph.name_scope(self._name) as scope:
            decay = convert_to_tensor(self._decay, name="decay")
            if self._num_updates is not None:
                count = cast(self._num_updates, dtypes.float32, name="num_updates")
                decay = raw.Minimum(decay, (1.0 + count) / (10.0 + count))
            updates = [
                assign_moving_average(self.average(v), v, decay, id(v) in debiased) for v in watched
            ]
            return group(*updates, name=scope)

    def _make_average(self, value: Any) -> Any:
        with default.init_scope():
            if isinstance(value, Variable):
                average = slot_creator.create_slot(value, value.initialized_value(), self._name)
                value.graph.add_to_collection(GraphKeys.MOVING_AVERAGE_VARIABLES, value)
                return average
            beside = value.op.type in ("Variable", "VariableV2", "VarHandleOp")
            return slot_creator.create_zeros_slot(value, self._name, colocate_with_primary=beside)

    def average(self, var: Any) -> Any:
        """The variable that holds the average of `var`, or None."""
        found = self._averages.get(id(var))
        return None if found is None else found[1]

    def average_name(self, var: Any) -> str:
        """The name of the variable that holds, or would hold, the average of `var`: its name in checkpoints."""
        average = self.average(var)
        if average is not None:
            return average.op.name
        graph = default.get_default_graph()
        return graph.unique_name(f"{var.op.name}/{self._name}", mark_as_used=False)

    def variables_to_restore(self, moving_avg_variables: Any = None) -> dict[str, Any]:
        """For a Saver that loads averages in the place of variables: names in the checkpoint -> variables.

        moving_avg_variables: those that have averages; all trainable ones, and those watched, where None.
        """
        if moving_avg_variables is None:
            moving_avg_variables = (
                variables.trainable_variables() + variables.moving_average_variables()
            )
        averaged = {id(v): v for v in moving_avg_variables}.values()
        names = {self.average_name(v): v for v in averaged}
        own = {v.name for v in averaged}
        for variable in variables.global_variables():
            if variable.name not in own and variable.op.name not in names:
                names[variable.op.name] = variable
        return names
