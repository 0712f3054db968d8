"""`tf.variable_scope`: blocks that name the variables made in them, and say what `get_variable` does where it is not told."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from headrace.api.export import export
from headrace.api.framework import graph_of
from headrace.api.framework import name_scope as open_name_scope
from headrace.api.get_variable import VariableScope, get_variable_scope_store
from headrace.api.variable_store import AUTO_REUSE
from headrace.graph import default


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
        # A block that is entered again may have been made inside a loop.
        while graph.building_function:
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
