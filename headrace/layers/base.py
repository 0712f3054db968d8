"""`tf.layers.Layer`: a layer whose variables live in variable scopes, where other layers can share them."""

from __future__ import annotations

import copy
from typing import Any

from headrace.api.export import export
from headrace.api.framework import GraphKeys
from headrace.api.framework import name_scope as open_name_scope
from headrace.api.get_variable import VariableScope, get_variable
from headrace.api.variable_arguments import VariableAggregation, VariableSynchronization
from headrace.api.variable_scope import variable_scope
from headrace.core import dtypes, nest
from headrace.graph import default
from headrace.layers.layer_base import (
    LayerBase,
    accepts,
    checked_trainable,
    snake_case,
    unique_layer_name,
)


@export("layers.Layer")
class Layer(LayerBase):
    """A layer as `tf.layers` has them: its variables are those of a variable scope, by default of its name.

    trainable: whether the variables go to TRAINABLE_VARIABLES. dtype: the type of the variables, where None that of the
    first input. Subclasses make variables in `build` with `add_weight`, and compute in `call`.
    """

    def __init__(
        self, trainable: bool = True, name: str | None = None, dtype: Any = None, **kwargs: Any
    ) -> None:
        scope = kwargs.pop("_scope", None)
        self._reuse = kwargs.pop("_reuse", None)
        self._use_resource_variables = False
        super().__init__(trainable=trainable, name=name, dtype=dtype, **kwargs)
        self._scope: VariableScope | None = None
        self._current_scope: Any = None
        if scope:
            with variable_scope(scope) as captured:
                self._scope = captured

    def _init_set_name(self, name: Any) -> None:
        if name and not isinstance(name, VariableScope):
            self._name = self._base_name = name
            return
        base = snake_case(type(self).__name__)
        self._name = unique_layer_name(base)
        self._base_name = name.name if name else base

    @property
    def scope_name(self) -> str:
        """The name of the variable scope. Raises ValueError: the layer has not been called yet."""
        if self._scope is None:
            raise ValueError(
                f'No name available for layer scope because the layer "{self._name}" has not been used yet. The scope name  '
                "is determined the first time the layer instance is called. You must therefore call the layer before "
                "querying `scope_name`."
            )
        return self._scope.name

    @property
    def graph(self) -> None:
        """None: a layer keeps no graph."""
        return None

    def _name_scope(self) -> str:
        return self._current_scope.original_name_scope

    def _set_scope(self, scope: Any = None) -> None:
        if self._scope is not None:
            return
        if self._reuse:
            opened = variable_scope(scope if scope is not None else self._base_name)
        else:
            opened = variable_scope(scope, default_name=self._base_name)
        with opened as captured:
            self._scope = captured

    def add_loss(self, losses: Any, inputs: Any = None) -> None:
        """As LayerBase's; the losses go to REGULARIZATION_LOSSES too."""
        before = len(self._losses)
        super().add_loss(losses, inputs)
        _add_to_collection(
            [loss for loss, _ in self._losses[before:]], GraphKeys.REGULARIZATION_LOSSES
        )

    def add_weight(
        self,
        name: str,
        shape: Any,
        dtype: Any = None,
        initializer: Any = None,
        regularizer: Any = None,
        trainable: bool | None = None,
        constraint: Any = None,
        use_resource: bool | None = None,
        synchronization: Any = VariableSynchronization.AUTO,
        aggregation: Any = VariableAggregation.NONE,
        partitioner: Any = None,
        **kwargs: Any,
    ) -> Any:
        """The variable `name` of the layer's scope, made or, once the layer is built or reuses, found.

        dtype: where None the layer's, else float32. regularizer: a function of the variable whose result becomes a loss.
        The others: as for `tf.get_variable`. Raises ValueError: trainable, though read by replicas alone.
        """
        for argument in kwargs:
            if argument != "experimental_autocast":
                raise TypeError("Unknown keyword argument:", argument)
        trainable = checked_trainable(trainable, synchronization)
        trainable = self.trainable and (trainable is None or trainable)
        graph = default.get_default_graph()
        before = {id(v) for v in graph.get_collection(GraphKeys.GLOBAL_VARIABLES)}
        self._set_scope(None)
        with variable_scope(
            self._scope, reuse=self.built or self._reuse, auxiliary_name_scope=False
        ) as scope:
            self._current_scope = scope
            with open_name_scope(self._name_scope()):
                variable = get_variable(
                    name,
                    shape=shape,
                    dtype=dtypes.as_dtype(dtype or self.dtype or dtypes.float32),
                    initializer=scope.initializer if initializer is None else initializer,
                    trainable=trainable,
                    constraint=constraint,
                    partitioner=partitioner,
                    use_resource=use_resource or self._use_resource_variables or scope.use_resource,
                    synchronization=synchronization,
                    aggregation=aggregation,
                )
                parts = list(variable) if hasattr(variable, "_get_variable_list") else [variable]
                if regularizer is not None and not any(id(p) in before for p in parts):
                    for part in parts:
                        with open_name_scope(f"{name}/Regularizer"):
                            self.add_loss(regularizer(part))
        # A custom getter or the scope may have decided otherwise.
        trained = {id(v) for v in graph.get_collection(GraphKeys.TRAINABLE_VARIABLES)}
        for part in parts:
            self._file_weight(part, trainable and id(part) in trained)
        return variable

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """As LayerBase's, in the layer's variable scope. scope: the scope to use, in the first call."""
        self._set_scope(kwargs.pop("scope", None))
        reuse = True if self.built else self._reuse
        with variable_scope(self._scope, reuse=reuse, auxiliary_name_scope=False) as scope:
            self._current_scope = scope
            if accepts(self.call, "scope"):
                kwargs["scope"] = scope
            outputs = super().__call__(inputs, *args, **kwargs)
        _add_to_collection(self.updates, GraphKeys.UPDATE_OPS)
        return outputs

    def __deepcopy__(self, memo: dict[int, Any]) -> Layer:
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        for key, value in vars(self).items():
            shared = key in ("_scope", "_current_scope") or _holds_tensors(value)
            vars(new)[key] = value if shared else copy.deepcopy(value, memo)
        return new


def _holds_tensors(value: Any) -> bool:
    return any(hasattr(v, "op") for v in nest.flatten(value))


def _add_to_collection(elements: list[Any], name: str) -> None:
    collection = default.get_default_graph().get_collection_ref(name)
    for element in elements:
        if all(element is not known for known in collection):
            collection.append(element)
