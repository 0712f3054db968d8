"""`tf.get_variable` and `tf.variable_scope`: variables made once and shared by name."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

from headrace.api.export import export, export_value
from headrace.api.framework import GraphKeys, graph_of
from headrace.api.framework import name_scope as open_name_scope
from headrace.api.variable_base import VariableAggregation, VariableSynchronization
from headrace.api.variable_store import AUTO_REUSE, VariableStore
from headrace.core import dtypes
from headrace.graph import default
from headrace.graph.convert import convert_to_tensor

export_value(AUTO_REUSE, "AUTO_REUSE")

_STORE_KEY = ("__variable_store",)
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


def _get_default_variable_store() -> VariableStore:
    return _kept_in_graph(_STORE_KEY, VariableStore)


@contextlib.contextmanager
def with_variable_store(store: VariableStore) -> Iterator[None]:
    """A block in which `get_variable` finds and files variables in `store`."""
    kept = default.get_default_graph().get_collection_ref(_STORE_KEY)
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
        _get_default_variable_store(),
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


def _wrap_getter(custom_getter: Any, old_getter: Any) -> Any:
    """The inner getter, for which the outer one is part of the true getter."""
    if old_getter is None:
        return custom_getter

    def wrapped(getter: Any, *args: Any, **kwargs: Any) -> Any:
        return custom_getter(functools.partial(old_getter, getter), *args, **kwargs)

    return wrapped


class _PureVariableScope:
    """A variable scope without a name scope."""

    def __init__(
        self, name_or_scope: Any, reuse: Any, old_name_scope: str | None, settings: dict[str, Any]
    ) -> None:
        self._name_or_scope = name_or_scope
        self._reuse = reuse
        self._old_name_scope = old_name_scope
        self._settings = settings
        self._scopes = get_variable_scope_store()
        self._jumps = isinstance(name_or_scope, VariableScope)
        if self._jumps:
            self._new_name = name_or_scope.name
            self._scope = self._derived(
                name_or_scope,
                reuse or name_or_scope.reuse,
                self._new_name,
                name_or_scope._name_scope,
            )

    def _derived(
        self, base: VariableScope, reuse: Any, name: str, name_scope: str
    ) -> VariableScope:
        """A scope with what `base` has and the settings of this block."""
        given = self._settings
        kept = {
            key: getattr(base, key) if given[key] is None else given[key]
            for key in (
                "initializer",
                "regularizer",
                "caching_device",
                "partitioner",
                "dtype",
                "use_resource",
            )
        }
        getter = base.custom_getter
        if given["custom_getter"] is not None:
            getter = _wrap_getter(given["custom_getter"], getter)
        # A constraint is not handed down.
        return VariableScope(
            reuse,
            name,
            custom_getter=getter,
            name_scope=name_scope,
            constraint=given["constraint"],
            **kept,
        )

    def __enter__(self) -> VariableScope:
        scopes = self._scopes
        self._old = scopes.current_scope
        if self._jumps:
            scopes.open_variable_scope(self._new_name)
            self._old_counts = dict(scopes.variable_scopes_count)
        else:
            prefix = self._old.name
            self._new_name = f"{prefix}/{self._name_or_scope}" if prefix else self._name_or_scope
            self._reuse = self._reuse or self._old.reuse
            name_scope = (
                self._name_or_scope if self._old_name_scope is None else self._old_name_scope
            )
            self._scope = self._derived(self._old, self._reuse, self._new_name, name_scope)
            scopes.open_variable_scope(self._new_name)
        scopes.current_scope = self._scope
        return self._scope

    def check_nesting(self) -> None:
        """Raises RuntimeError: a scope that was entered later has not been left."""
        if self._scopes.current_scope is not self._scope:
            raise RuntimeError("Improper nesting of variable_scope.")

    def __exit__(self, *exception: Any) -> None:
        self.check_nesting()
        scopes = self._scopes
        if self._jumps:
            scopes.variable_scopes_count = self._old_counts
        else:
            scopes.close_variable_subscopes(self._new_name)
        scopes.current_scope = self._old


def pure_variable_scope(name_or_scope: Any, **settings: Any) -> _PureVariableScope:
    """A block as of `variable_scope` that opens no name scope."""
    keys = (
        "initializer",
        "regularizer",
        "caching_device",
        "partitioner",
        "custom_getter",
        "dtype",
        "use_resource",
        "constraint",
    )
    return _PureVariableScope(
        name_or_scope, settings.pop("reuse", None), None, {k: settings.pop(k, None) for k in keys}
    )


def unique_scope_name(prefix: str) -> str:
    """`prefix`, or `prefix_1`, ...: what was not opened yet in the scope in force."""
    scopes = get_variable_scope_store()
    outer = scopes.current_scope.name
    name = f"{outer}/{prefix}" if outer else prefix
    if not scopes.variable_scope_count(name):
        return prefix
    number = 1
    while scopes.variable_scope_count(f"{name}_{number}"):
        number += 1
    return f"{prefix}_{number}"


@export("variable_scope")
class variable_scope:
    """A block that prefixes names of variables (`name_or_scope`) and of operations, and holds defaults for
    get_variable.

    name_or_scope: a name, or a VariableScope to enter again. default_name: where that is None, made unique.
    values: tensors whose graph is meant. reuse: True shares variables, AUTO_REUSE shares those that exist; None
    inherits. auxiliary_name_scope: False opens no name scope. The others: defaults for `tf.get_variable`.
    Raises TypeError: no name, or of another type. ValueError: reuse is neither of these, or True without a name.
    """

    def __init__(
        self,
        name_or_scope: Any,
        default_name: str | None = None,
        values: Any = None,
        initializer: Any = None,
        regularizer: Any = None,
        caching_device: Any = None,
        partitioner: Any = None,
        custom_getter: Any = None,
        reuse: Any = None,
        dtype: Any = None,
        use_resource: bool | None = None,
        constraint: Any = None,
        auxiliary_name_scope: bool = True,
    ) -> None:
        if default_name is None and name_or_scope is None:
            raise TypeError("If default_name is None then name_or_scope is required")
        # Scopes inherit: False is the same as not given.
        reuse = None if reuse is False else reuse
        if not (reuse is True or reuse is None or reuse is AUTO_REUSE):
            raise ValueError("The reuse parameter must be True or False or None.")
        if not isinstance(auxiliary_name_scope, bool):
            raise TypeError(
                f"The auxiliary_name_scope must be `True` or `False`, while get {auxiliary_name_scope}"
            )
        self._name_or_scope = name_or_scope
        self._default_name = default_name
        self._reuse = reuse
        self._auxiliary_name_scope = auxiliary_name_scope
        self._settings = {
            "initializer": initializer,
            "regularizer": regularizer,
            "caching_device": caching_device,
            "partitioner": partitioner,
            "custom_getter": custom_getter,
            "dtype": dtype,
            "use_resource": use_resource,
            "constraint": constraint,
        }
        graph = graph_of(values or [])
        while (
            graph.building_function
        ):  # a block that is entered again may have been made inside a loop
            graph = graph.outer_graph
        self._graph = graph
        # A block entered again keeps its scopes.
        self._pure: _PureVariableScope | None = None
        self._name_block: Any = None
        self._blocks: list[contextlib.ExitStack] = []

    def __enter__(self) -> VariableScope:
        with contextlib.ExitStack() as blocks:
            if not default.get_default_graph().building_function:
                blocks.enter_context(self._graph.as_default())
            if self._pure is not None:
                if self._name_block is not None:
                    blocks.enter_context(self._name_block)
                scope = blocks.enter_context(self._pure)
            else:
                scope = self._enter_first(blocks)
            self._blocks.append(blocks.pop_all())
        return scope

    def _enter_first(self, blocks: contextlib.ExitStack) -> VariableScope:
        name_block = None
        if not self._auxiliary_name_scope:
            current = default.get_default_graph().get_name_scope()
            name_block = open_name_scope(f"{current}/" if current else current)
        given = self._name_or_scope
        if given is None:
            if self._reuse:
                raise ValueError("reuse=True cannot be used without a name_or_scope")
            name_block = name_block or open_name_scope(self._default_name)
            opened = blocks.enter_context(name_block)
            pure = _PureVariableScope(
                unique_scope_name(self._default_name), None, opened, self._settings
            )
        else:
            if not isinstance(given, (VariableScope, str)):
                raise TypeError("VariableScope: name_or_scope must be a string or VariableScope.")
            is_name = isinstance(given, str)
            short = given if is_name else given.name.split("/")[-1]
            old_name_scope = None
            if short or name_block:
                name_block = name_block or open_name_scope(short)
                opened = blocks.enter_context(name_block)
                old_name_scope = opened if is_name else given.original_name_scope
            pure = _PureVariableScope(given, self._reuse, old_name_scope, self._settings)
        scope = blocks.enter_context(pure)
        self._pure, self._name_block = pure, name_block
        return scope

    def __exit__(self, *exception: Any) -> None:
        if self._pure is not None:
            self._pure.check_nesting()
        self._blocks.pop().__exit__(*exception)


@export("variable_op_scope")
@contextlib.contextmanager
def variable_op_scope(
    values: Any,
    name_or_scope: Any,
    default_name: str | None = None,
    initializer: Any = None,
    regularizer: Any = None,
    caching_device: Any = None,
    partitioner: Any = None,
    custom_getter: Any = None,
    reuse: Any = None,
    dtype: Any = None,
    use_resource: bool | None = None,
    constraint: Any = None,
) -> Iterator[VariableScope]:
    """The older form of `variable_scope`."""
    with variable_scope(
        name_or_scope,
        default_name=default_name,
        values=values,
        initializer=initializer,
        regularizer=regularizer,
        caching_device=caching_device,
        partitioner=partitioner,
        custom_getter=custom_getter,
        reuse=reuse,
        dtype=dtype,
        use_resource=use_resource,
        constraint=constraint,
    ) as scope:
        yield scope


@export("variable_creator_scope")
@contextlib.contextmanager
def variable_creator_scope(variable_creator: Callable[..., Any]) -> Iterator[None]:
    """A block in which variable_creator(next_creator, **arguments) stands between `tf.Variable` and the making."""
    graph = default.get_default_graph()
    old = graph._variable_creator_stack
    new = graph._variable_creator_stack = [*old, variable_creator]
    try:
        yield
    finally:
        if graph._variable_creator_stack is not new:
            raise RuntimeError("Exiting variable_creator_scope without proper nesting.")
        graph._variable_creator_stack = old
