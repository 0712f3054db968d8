"""The scopes under which operations are made: names, devices, control dependencies, colocation."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headrace.core import device_spec, site
from headrace.graph.operation import Operation

if TYPE_CHECKING:
    from headrace.graph.graph import Graph


class ControlDependencies:
    """One `with graph.control_dependencies(...)` block: what must run first, and which ops already follow it."""

    __slots__ = ("control_inputs", "is_new_stack", "old_context", "old_stack", "seen")

    def __init__(self, control_inputs: list[Operation] | None) -> None:
        self.is_new_stack = control_inputs is None
        self.control_inputs = control_inputs or []
        self.seen: set[Operation] = set()
        self.old_stack: list[ControlDependencies] | None = None
        self.old_context: Any = None


class Scopes(threading.local):
    """The scopes in force; each thread has its own once the graph is made thread-local."""

    def __init__(self) -> None:
        self.devices: list[DeviceEntry] = []
        self.control: list[ControlDependencies] = []
        # (anchor, where it was asked for)
        self.colocation: list[tuple[Operation, site.Site]] = []
        self.name = ""
        self.attrs: dict[str, Any] = {}
        self.gradient_overrides: dict[str, str] = {}
        self.gradient_functions: dict[str, Any] = {}
        self.container = ""
        self.original_op: Operation | None = None
        self.control_flow_context: Any = None
        self.variable_creators: list[Any] = []  # of `tf.variable_creator_scope`


class Replaced:
    """A block in which some of the scopes in force are others."""

    __slots__ = ("_new", "_old", "_scopes")

    def __init__(self, scopes: Scopes, **new: Any) -> None:
        self._scopes, self._new = scopes, new

    def __enter__(self) -> None:
        held = self._scopes.__dict__
        self._old = {name: held[name] for name in self._new}
        held.update(self._new)

    def __exit__(self, *unused: object) -> None:
        self._scopes.__dict__.update(self._old)


class NameScope:
    """The context manager of `Graph.name_scope`: a class, since a generator costs three times as much."""

    __slots__ = ("_graph", "_name", "_old")

    def __init__(self, graph: Graph, name: str | None) -> None:
        self._graph, self._name = graph, name

    def __enter__(self) -> str:
        scopes = self._graph._scopes
        stack = self._graph._enter_name(self._name)
        self._old, scopes.name = scopes.name, stack
        return stack + "/" if self._name else ""

    def __exit__(self, *unused: object) -> None:
        self._graph._scopes.name = self._old


class _Entered:
    """A block that the program has entered at a place."""

    __slots__ = ("_site",)

    def __init__(self, where: site.Site) -> None:
        self._site = where

    @property
    def filename(self) -> str:
        """The file of the block."""
        return self._site.filename

    @property
    def lineno(self) -> int:
        """The line of the block."""
        return self._site.lineno


class DeviceEntry(_Entered):
    """One block of `Graph.device`: what it does to the device of an operation, and where it was entered.

    function: None where the block lifts the outer ones. obj: the device as the program gave it, or the place of the
    function.
    """

    __slots__ = ("function", "obj")

    def __init__(self, value: Any) -> None:
        super().__init__(site.capture())
        self.function: Callable[[Operation], Any] | None = None
        self.obj = ""
        if value is None:
            return
        if callable(value) and not isinstance(value, device_spec.DeviceSpec):
            self.function = value
            code = getattr(value, "__code__", None)
            place = f"{code.co_filename}, {code.co_firstlineno}" if code else type(value).__name__
            self.obj = f"{getattr(value, '__name__', 'function')}<{place}>"
        else:
            self.obj = value.to_string() if hasattr(value, "to_string") else value
            self.function = device_spec.merge_device(self.obj)


class DeviceScope:
    """The context manager of `Graph.device`."""

    __slots__ = ("_entered", "_old", "_scopes", "_value")

    def __init__(self, scopes: Scopes, value: Any) -> None:
        self._scopes, self._value = scopes, value

    def __enter__(self) -> None:
        self._old = self._scopes.devices
        self._entered = self._scopes.devices = [*self._old, DeviceEntry(self._value)]

    def __exit__(self, *unused: object) -> None:
        if self._scopes.devices is not self._entered:
            raise RuntimeError("Exiting device scope without proper scope nesting")
        self._scopes.devices = self._old


class ColocationMetadata(_Entered):
    """Where the program asked for a colocation."""

    __slots__ = ()
    obj = None
