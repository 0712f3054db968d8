"""The stacks of default graphs and default sessions, one for each thread, under one global default graph."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.graph.graph import Graph


class _Stacks(threading.local):
    def __init__(self) -> None:
        self.graphs: list[Graph] = []
        self.sessions: list[Any] = []
        self.interactive: list[Any] = []  # of these, the ones that `push_session` put there


_stacks = _Stacks()
_global_lock = threading.Lock()
_global_graph: Graph | None = None


def get_default_graph() -> Graph:
    """The innermost graph entered with `as_default` in this thread, else the process-wide one."""
    graphs = _stacks.graphs
    return graphs[-1] if graphs else _get_global_graph()


def _get_global_graph() -> Graph:
    global _global_graph
    if _global_graph is None:
        from headrace.graph.graph import Graph

        with _global_lock:
            if _global_graph is None:
                _global_graph = Graph()
    return _global_graph


def reset_default_graph() -> None:
    """Replaces the process-wide default graph by an empty one. Raises AssertionError: inside `as_default`."""
    if _stacks.graphs:
        raise AssertionError(
            "Do not use tf.reset_default_graph() to clear nested graphs. If you need a cleared graph, exit the "
            "nesting and create a new graph."
        )
    global _global_graph
    _global_graph = None


@contextlib.contextmanager
def graph_as_default(graph: Graph) -> Iterator[Graph]:
    """Makes `graph` the default graph of this thread inside the block."""
    graphs = _stacks.graphs
    graphs.append(graph)
    try:
        yield graph
    finally:
        if not graphs or graphs[-1] is not graph:
            raise AssertionError(
                "Nesting violated for default stack: a graph was left out of order"
            )
        graphs.pop()


@contextlib.contextmanager
def init_scope() -> Iterator[None]:
    """Leaves control flow, control dependencies and bodies of functions: what is made here runs once, by itself.

    The name scope and the devices in force stay.
    """
    inner = get_default_graph()
    outer = next((g for g in reversed(_stacks.graphs) if not g.building_function), None)
    if outer is None:
        outer = _get_global_graph()
    scope, devices = inner.get_name_scope(), inner._scopes.devices
    old_devices = outer._scopes.devices
    with contextlib.ExitStack() as blocks:
        if outer is not inner or not _stacks.graphs:
            blocks.enter_context(outer.as_default())
        blocks.enter_context(outer.name_scope(f"{scope}/" if scope else None))
        blocks.enter_context(outer.control_dependencies(None))
        if devices:
            outer._scopes.devices = devices
        try:
            yield
        finally:
            outer._scopes.devices = old_devices


def get_default_session() -> Any:
    """The innermost default session of this thread, or None."""
    return _stacks.sessions[-1] if _stacks.sessions else None


@contextlib.contextmanager
def session_as_default(session: Any) -> Iterator[Any]:
    """Makes `session` the default session of this thread inside the block.

    Raises AssertionError at its end: a block entered later has not been left.
    """
    sessions = _stacks.sessions
    sessions.append(session)
    try:
        yield session
    finally:
        # An interactive session may have come on top, and is closed whenever the program likes.
        newer = [s for s in sessions if s not in _stacks.interactive]
        pop_session(session)
        if newer and newer[-1] is not session and session in newer:
            raise AssertionError(f"Nesting violated for default stack of {type(session)} objects")


def push_session(session: Any) -> None:
    """Makes `session` the default until `pop_session` (interactive sessions)."""
    _stacks.sessions.append(session)
    _stacks.interactive.append(session)


def pop_session(session: Any) -> None:
    """Takes `session` off this thread's stack, wherever it stands."""
    for stack in (_stacks.sessions, _stacks.interactive):
        for i in range(len(stack) - 1, -1, -1):
            if stack[i] is session:
                del stack[i]
                break


def session_for(session: Any, graph: Graph, what: str) -> Any:
    """`session`, or the default session, for `eval` and `run` methods.

    Raises ValueError: there is no session, or it belongs to another graph.
    """
    if session is None:
        session = get_default_session()
        if session is None:
            raise ValueError(
                f"Cannot {what}: No default session is registered. Use `with sess.as_default()` or pass an explicit "
                "session to `eval(session=sess)` or `run(session=sess)`."
            )
        if session.graph is not graph:
            raise ValueError(
                f"Cannot use the default session to {what}: its graph is different from the session's graph. Pass an "
                "explicit session."
            )
    elif session.graph is not graph:
        raise ValueError(
            f"Cannot use the given session to {what}: its graph is different from the session's graph."
        )
    return session
