"""`tf.make_template`: a function whose variables are made at its first call and shared by the later ones."""

from __future__ import annotations

import functools
import threading
import traceback
from collections.abc import Callable
from typing import Any

from headrace.api.export import export
from headrace.api.framework import GraphKeys
from headrace.api.get_variable import VariableScope
from headrace.api.variable_scope import pure_variable_scope, unique_scope_name, variable_scope
from headrace.graph import default


@export("make_template")
def make_template(
    name_: str,
    func_: Callable[..., Any],
    create_scope_now_: bool = False,
    unique_name_: str | None = None,
    custom_getter_: Any = None,
    **kwargs: Any,
) -> Callable[..., Any]:
    """`func_` in a variable scope of its own: its variables are made at the first call, shared by those that follow.

    name_: the scope's name, made unique. create_scope_now_: opens the scope at once instead of at the first call.
    unique_name_: the scope's name, taken as it is. kwargs: arguments that every call gets.
    Raises ValueError: no name. At a later call: func_ makes variables that it did not make at the first.
    """
    if kwargs:
        func_ = functools.partial(func_, **kwargs)
    return Template(name_, func_, create_scope_now_, unique_name_, custom_getter_)


class Template:
    """A function and the scope that its variables live in: see `make_template`."""

    def __init__(
        self,
        name: str,
        func: Callable[..., Any],
        create_scope_now: bool = False,
        unique_name: str | None = None,
        custom_getter: Any = None,
    ) -> None:
        if name is None:
            raise ValueError("name cannot be None.")
        self._func = func
        self._made_at = traceback.format_stack()[:-2]
        self._name = name
        self._unique_name = unique_name
        self._custom_getter = custom_getter
        self._lock = threading.Lock()
        # Whether a call has begun, and whether one has ended: what comes after it only shares.
        self._called = self._variables_created = False
        self._variable_scope: VariableScope | None = None
        if create_scope_now:
            scope_name = unique_name or unique_scope_name(name)
            with pure_variable_scope(scope_name, custom_getter=custom_getter) as scope:
                self._variable_scope = scope

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._variable_scope is not None:
            # Its own name scope each time; the variables keep their names.
            with variable_scope(self._variable_scope, reuse=self._called):
                return self._call(args, kwargs)
        with variable_scope(
            self._unique_name, self._name, custom_getter=self._custom_getter
        ) as scope:
            self._variable_scope = scope
            return self._call(args, kwargs)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            if self._variables_created:
                return self._call_again(args, kwargs)
            with self._lock:
                first, self._called = not self._called, True
            try:
                result = self._func(*args, **kwargs)
            except BaseException:
                if first:
                    self._called = False
                raise
            self._variables_created = self._variables_created or first
            return result
        except Exception as error:
            # Where the template was made helps more than the place inside it.
            text = error.args[0] if error.args else ""
            made_at = "".join(self._made_at)
            error.args = (f"{text}\n\noriginally defined at:\n{made_at}", *error.args[1:])
            raise

    def _call_again(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call that may only share: `tf.Variable` inside would make another variable each time."""
        trainable = default.get_default_graph().get_collection_ref(GraphKeys.TRAINABLE_VARIABLES)
        before = len(trainable)
        result = self._func(*args, **kwargs)
        if len(trainable) != before:
            raise ValueError(
                "Trainable variable created when calling a template after the first time, perhaps you used tf.Variable "
                f"when you meant tf.get_variable: {trainable[before:]}"
            )
        return result

    @property
    def name(self) -> str:
        """The name given."""
        return self._name

    @property
    def func(self) -> Callable[..., Any]:
        """The function given."""
        return self._func

    @property
    def variable_scope(self) -> VariableScope | None:
        """The scope of the variables; None before the first call."""
        return self._variable_scope

    @property
    def variable_scope_name(self) -> str | None:
        """The name of the scope with its "/"; None before the first call."""
        if self._variable_scope is None:
            return None
        name = self._variable_scope.name
        return name if not name or name[-1] == "/" else f"{name}/"

    @property
    def var_scope(self) -> VariableScope | None:
        """The older name of `variable_scope`."""
        return self._variable_scope

    def _in_scope(self, key: str) -> list[Any]:
        if not self._variables_created:
            return []
        return default.get_default_graph().get_collection(key, self.variable_scope_name)

    @property
    def global_variables(self) -> list[Any]:
        """The global variables in the scope."""
        return self._in_scope(GraphKeys.GLOBAL_VARIABLES)

    @property
    def local_variables(self) -> list[Any]:
        """The local variables in the scope."""
        return self._in_scope(GraphKeys.LOCAL_VARIABLES)

    @property
    def trainable_variables(self) -> list[Any]:
        """The trainable variables in the scope."""
        return self._in_scope(GraphKeys.TRAINABLE_VARIABLES)

    @property
    def trainable_weights(self) -> list[Any]:
        """The same as `trainable_variables`, as layers call it."""
        return self.trainable_variables

    @property
    def non_trainable_variables(self) -> list[Any]:
        """The global variables in the scope that are not trainable."""
        trainable = set(self.trainable_variables)
        return [v for v in self.global_variables if v not in trainable]

    @property
    def non_trainable_weights(self) -> list[Any]:
        """The same as `non_trainable_variables`, as layers call it."""
        return self.non_trainable_variables

    @property
    def variables(self) -> list[Any]:
        """The global and local variables in the scope."""
        return self.global_variables + self.local_variables

    @property
    def weights(self) -> list[Any]:
        """The same as `variables`, as layers call it."""
        return self.variables
