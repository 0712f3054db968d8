"""`tf.get_variable`: variables made once and shared by name, with what the variable scope in force says of them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from headrace.api.export import export, export_value
from headrace.api.framework import GraphKeys
from headrace.api.framework import name_scope as open_name_scope
from headrace.api.variable_arguments import VariableAggregation, VariableSynchronization
from headrace.api.variable_store import AUTO_REUSE, VariableStore
from headrace.core import dtypes
from headrace.graph import default
from headrace.graph.convert import convert_to_tensor

export_value(AUTO_REUSE, "AUTO_REUSE")

STORE_KEY = ("__variable_store",)
"""The collection in which a graph keeps what `get_variable` has made."""
_SCOPES_KEY = ("__varscope",)
_use_resource_by_default = False


@export("enable_resource_variables")
def enable_resource_variables() -> None:
    """Makes new variables resource variables unless told otherwise."""
    global _use_resource_by_default
    _use_resource_by_default = True


@export("disable_resource_variables")
def disable_resource_variables() -> None:
    """Makes new variables reference variables unless told otherwise: the default."""
    global _use_resource_by_default
    _use_resource_by_default = False


@export("resource_variables_enabled")
def resource_variables_enabled() -> bool:
    """Whether new variables are resource variables unless told otherwise."""
    return _use_resource_by_default


@export("no_regularizer")
def no_regularizer(_: Any) -> None:
    """The regularizer that stops regularization where a scope would give one."""


@export("VariableScope")
class VariableScope:
    """What `get_variable` uses where it is not told otherwise; it carries the prefix of the names."""

    def __init__(
        self,
        reuse: Any,
        name: str = "",
        initializer: Any = None,
        regularizer: Any = None,
        caching_device: Any = None,
        partitioner: Any = None,
        custom_getter: Any = None,
        name_scope: str = "",
        dtype: Any = dtypes.float32,
        use_resource: bool | None = None,
        constraint: Any = None,
    ) -> None:
        self._name = name
        self._initializer = initializer
        self._regularizer = regularizer
        self._reuse = reuse
        self._caching_device = caching_device
        self._partitioner = partitioner
        self._custom_getter = custom_getter
        self._name_scope = name_scope
        self._dtype = dtype
        self._use_resource = use_resource
        self._constraint = constraint

    @property
    def name(self) -> str:
        """The prefix of variables' names, without the "/" at its end."""
        return self._name

    @property
    def original_name_scope(self) -> str:
        """The name scope that was opened together with this scope."""
        return self._name_scope

    @property
    def reuse(self) -> Any:
        """True: variables must exist; False or None: they must not; AUTO_REUSE: either."""
        return self._reuse

    @property
    def initializer(self) -> Any:
        """The initializer of new variables, or None."""
        return self._initializer

    @property
    def dtype(self) -> Any:
        """The type of new variables."""
        return self._dtype

    @property
    def use_resource(self) -> bool | None:
        """The flavour of new variables, or None."""
        return self._use_resource

    @property
    def regularizer(self) -> Any:
        """The regularizer of new variables, or None."""
        return self._regularizer

    @property
    def caching_device(self) -> Any:
        """Where reads of new variables are kept, or None."""
        return self._caching_device

    @property
    def partitioner(self) -> Any:
        """What cuts new variables into parts, or None."""
        return self._partitioner

    @property
    def custom_getter(self) -> Any:
        """What stands between `get_variable` and the variables, or None."""
        return self._custom_getter

    @property
    def constraint(self) -> Any:
        """The constraint of new variables, or None."""
        return self._constraint

    def reuse_variables(self) -> None:
        """From now on variables must exist."""
        self._reuse = True

    def set_initializer(self, initializer: Any) -> None:
        """Sets the initializer of new variables."""
        self._initializer = initializer

    def set_dtype(self, dtype: Any) -> None:
        """Sets the type of new variables."""
        self._dtype = dtype

    def set_use_resource(self, use_resource: bool | None) -> None:
        """Sets the flavour of new variables."""
        self._use_resource = use_resource

    def set_regularizer(self, regularizer: Any) -> None:
        """Sets the regularizer of new variables."""
        self._regularizer = regularizer

    def set_caching_device(self, caching_device: Any) -> None:
        """Sets where reads of new variables are kept."""
        self._caching_device = caching_device

    def set_partitioner(self, partitioner: Any) -> None:
        """Sets what cuts new variables into parts."""
        self._partitioner = partitioner

    def set_custom_getter(self, custom_getter: Any) -> None:
        """Sets what stands between `get_variable` and the variables."""
        self._custom_getter = custom_getter

    def get_collection(self, name: str) -> list[Any]:
        """The members of a collection whose names lie in this scope."""
        scope = f"{self._name}/" if self._name else ""
        return default.get_default_graph().get_collection(name, scope)

    def trainable_variables(self) -> list[Any]:
        """The trainable variables in this scope."""
        return self.get_collection(GraphKeys.TRAINABLE_VARIABLES)

    def global_variables(self) -> list[Any]:
        """The global variables in this scope."""
        return self.get_collection(GraphKeys.GLOBAL_VARIABLES)

    def local_variables(self) -> list[Any]:
        """The local variables in this scope."""
        return self.get_collection(GraphKeys.LOCAL_VARIABLES)

    def get_variable(
        self,
        var_store: VariableStore,
        name: str,
        shape: Any = None,
        dtype: Any = None,
        initializer: Any = None,
        regularizer: Any = None,
        reuse: Any = None,
        trainable: bool | None = None,
        collections: Any = None,
        caching_device: Any = None,
        partitioner: Any = None,
        validate_shape: bool = True,
        use_resource: bool | None = None,
        custom_getter: Any = None,
        constraint: Any = None,
        synchronization: Any = VariableSynchronization.AUTO,
        aggregation: Any = VariableAggregation.NONE,
    ) -> Any:
        """The variable `name` of this scope in `var_store`: see `tf.get_variable`."""
        full_name = f"{self._name}/{name}" if self._name else name
        with open_name_scope(None):
            # Variables get their names from variable scopes alone.
            if dtype is not None and initializer is not None and not callable(initializer):
                found = convert_to_tensor(initializer).dtype.base_dtype
                if found != dtype:
                    raise ValueError(
                        f"Initializer type '{found}' and explicit dtype '{dtype}' don't match."
                    )
            return var_store.get_variable(
                full_name,
                shape=shape,
                dtype=self._dtype if dtype is None else dtype,
                initializer=self._initializer if initializer is None else initializer,
                regularizer=self._regularizer if regularizer is None else regularizer,
                reuse=self._reuse if reuse is None else reuse,
                trainable=trainable,
                collections=collections,
                caching_device=self._caching_device if caching_device is None else caching_device,
                partitioner=self._partitioner if partitioner is None else partitioner,
                validate_shape=validate_shape,
                use_resource=self._use_resource if use_resource is None else use_resource,
                custom_getter=self._custom_getter if custom_getter is None else custom_getter,
                constraint=self._constraint if constraint is None else constraint,
                synchronization=synchronization,
                aggregation=aggregation,
            )

    def _get_partitioned_variable(
        self,
        var_store: VariableStore,
        name: str | None,
        shape: Any,
        dtype: Any,
        initializer: Any,
        partitioner: Any,
        trainable: bool | None,
        collections: Any,
    ) -> Any:
        """As `get_variable`, cut by `partitioner`; the scope's own name where `name` is None."""
        if self._custom_getter is not None:
            raise ValueError(
                "Private access to _get_partitioned_variable is not allowed when a custom getter is "
                "set.  Current custom "
                f"getter: {self._custom_getter}.  It is likely that you're using create_partitioned_variables.  If so, "
                "consider instead using get_variable with a non-empty partitioner parameter instead."
            )
        with open_name_scope(None):
            return var_store._get_partitioned_variable(
                "/".join(part for part in (self._name, name) if part),
                partitioner,
                shape,
                self._dtype if dtype is None else dtype,
                self._initializer if initializer is None else initializer,
                self._regularizer,
                self._reuse,
                trainable=trainable,
                collections=collections,
                caching_device=self._caching_device,
                use_resource=self._use_resource,
                constraint=self._constraint,
            )


class _ScopeStore(threading.local):
    """The scope in force in a thread, and how often each name was opened (for names made unique)."""

    def __init__(self) -> None:
        self.current_scope = VariableScope(False)
        self.variable_scopes_count: dict[str, int] = {}

    def open_variable_scope(self, name: str) -> None:
        self.variable_scopes_count[name] = self.variable_scopes_count.get(name, 0) + 1

    def close_variable_subscopes(self, name: str | None) -> None:
        for known in self.variable_scopes_count:
            if name is None or known.startswith(f"{name}/"):
                self.variable_scopes_count[known] = 0

    def variable_scope_count(self, name: str) -> int:
        return self.variable_scopes_count.get(name, 0)


def _kept_in_graph(key: Any, make: Callable[[], Any]) -> Any:
    """The one object of its kind that the default graph keeps in a collection of its own."""
    kept = default.get_default_graph().get_collection_ref(key)
    if not kept:
        kept.append(make())
    return kept[0]


def get_variable_scope_store() -> _ScopeStore:
    """The scopes of the default graph."""
    return _kept_in_graph(_SCOPES_KEY, _ScopeStore)


def get_default_variable_store() -> VariableStore:
    """The variables of the default graph."""
    return _kept_in_graph(STORE_KEY, VariableStore)


@contextlib.contextmanager
def with_variable_store(store: VariableStore) -> Iterator[None]:
    """A block in which `get_variable` finds and files variables in `store`."""
    kept = default.get_default_graph().get_collection_ref(STORE_KEY)
    old = list(kept)
    kept[:] = [store]
    try:
        yield
    finally:
        kept[:] = old


@export("get_variable_scope")
def get_variable_scope() -> VariableScope:
    """The variable scope in force."""
    return get_variable_scope_store().current_scope


@export("get_variable")
def get_variable(
    name: str,
    shape: Any = None,
    dtype: Any = None,
    initializer: Any = None,
    regularizer: Any = None,
    trainable: bool | None = None,
    collections: Any = None,
    caching_device: Any = None,
    partitioner: Any = None,
    validate_shape: bool = True,
    use_resource: bool | None = None,
    custom_getter: Any = None,
    constraint: Any = None,
    synchronization: Any = VariableSynchronization.AUTO,
    aggregation: Any = VariableAggregation.NONE,
) -> Any:
    """The variable `name` of the scope in force: made, or found where the scope says that variables are shared.

    shape, dtype: float32 where None. initializer: a function of (shape, dtype), or a value, which gives the shape;
    where None the scope's, else Glorot's uniform distribution, or zeros for types that are not floating. regularizer:
    a function of the variable; what it returns goes into REGULARIZATION_LOSSES. partitioner: cuts the variable; the
    result is then a PartitionedVariable. custom_getter: called as custom_getter(getter, name, **arguments) in
    place of the making. The others: as for `tf.Variable`.
    Raises ValueError: the variable exists but must not, or the other way round; another shape or type.
    """
    return get_variable_scope().get_variable(
        get_default_variable_store(),
        name,
        shape=shape,
        dtype=dtype,
        initializer=initializer,
        regularizer=regularizer,
        trainable=trainable,
        collections=collections,
        caching_device=caching_device,
        partitioner=partitioner,
        validate_shape=validate_shape,
        use_resource=use_resource,
        custom_getter=custom_getter,
        constraint=constraint,
        synchronization=synchronization,
        aggregation=aggregation,
    )


@export("get_local_variable")
def get_local_variable(
    name: str,
    shape: Any = None,
    dtype: Any = None,
    initializer: Any = None,
    regularizer: Any = None,
    trainable: bool = False,
    collections: Any = None,
    caching_device: Any = None,
    partitioner: Any = None,
    validate_shape: bool = True,
    use_resource: bool | None = None,
    custom_getter: Any = None,
    constraint: Any = None,
    synchronization: Any = VariableSynchronization.AUTO,
    aggregation: Any = VariableAggregation.NONE,
) -> Any:
    """As `get_variable`, for a variable in LOCAL_VARIABLES that is not trained."""
    return get_variable(
        name,
        shape=shape,
        dtype=dtype,
        initializer=initializer,
        regularizer=regularizer,
        trainable=False,
        collections=[*(collections or ()), GraphKeys.LOCAL_VARIABLES],
        caching_device=caching_device,
        partitioner=partitioner,
        validate_shape=validate_shape,
        use_resource=use_resource,
        custom_getter=custom_getter,
        constraint=constraint,
        synchronization=synchronization,
        aggregation=aggregation,
    )
