"""Sessions: where graphs run and variables live."""

from __future__ import annotations

import contextlib
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from tensorboard.compat.proto import config_pb2

from headrace.core import errors
from headrace.graph import default
from headrace.graph.graph import Graph
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.lowering.jax_adapter import ARRAY
from headrace.runtime import devices
from headrace.runtime.device_step import DeviceStep
from headrace.runtime.flow_step import FlowStep
from headrace.runtime.late_runs import LateRuns
from headrace.runtime.late_step import late_step
from headrace.runtime.owned import is_owned
from headrace.runtime.resources import ResourceStore
from headrace.runtime.step import Step
from headrace.session import feeds as feeding
from headrace.session.boundary import shortened
from headrace.session.devices import DeviceAttributes, attributes
from headrace.session.fetches import Fetches
from headrace.session.memory_options import rematerialization
from headrace.session.mixed_precision import MixedPrecision
from headrace.session.partial_run import PartialRun
from headrace.session.placement import Placement


class _Prepared:
    """A step together with how its results are put together."""

    __slots__ = ("build", "execute", "mutations", "raw", "single", "step", "tensors", "waits")

    def __init__(
        self,
        step: Step,
        fetches: Fetches,
        tensors: tuple[Tensor, ...],
        execute: Callable[[list[Any]], list[Any]],
    ) -> None:
        self.step, self.build, self.single, self.tensors = (
            step,
            fetches.build,
            fetches.single,
            tensors,
        )
        self.mutations = step.mutations
        # What runs the step, and whether it sees what a run does that has returned before it is done.
        self.execute = execute
        self.waits = step.sees_state


class BaseSession:
    """Runs operations of one graph and keeps the values of its variables.

    target: the address of a master, "" for this process. graph: the default graph where None. config: a ConfigProto.
    """

    def __init__(self, target: str = "", graph: Graph | None = None, config: Any = None) -> None:
        if graph is None:
            self._graph = default.get_default_graph()
        elif isinstance(graph, Graph):
            self._graph = graph
        else:
            raise TypeError(f"graph must be a tf.Graph, but got {type(graph)}")
        if config is not None and not isinstance(config, config_pb2.ConfigProto):
            raise TypeError(f"config must be a tf.ConfigProto, but got {type(config)}")
        if not isinstance(target, (str, bytes)):
            raise TypeError(f"target must be a string, but got {type(target)}")
        if target:
            _refuse(target if isinstance(target, str) else target.decode())
        self._target = target
        self._config = config
        self._closed = False
        self._opened = True
        self._resources = ResourceStore()
        self._late = LateRuns(self._resources)
        self._prepared: dict[Any, _Prepared] = {}
        self._partial_runs: dict[str, PartialRun] = {}
        self._interruptible_steps: weakref.WeakKeyDictionary[Step, DeviceStep] = (
            weakref.WeakKeyDictionary()
        )
        self._run_counts: weakref.WeakKeyDictionary[Step, int] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        self._known_devices: tuple[devices.Device, ...] = ()
        devices.configure(config)
        self._placement = Placement(self)
        self._rematerialize = rematerialization(config)
        self._mixed_precision = MixedPrecision(config)
        # Milliseconds that any run may wait; 0: for ever.
        self._limit = config.operation_timeout_in_ms if config is not None else 0
        # Runs that the session itself has something to say about: a limit of time, a count for `build_cost_model`.
        self._has_run_options = bool(self._limit) or self._placement.costs is not None

    # ---- what it is

    @property
    def graph(self) -> Graph:
        """The graph that this session runs."""
        return self._graph

    @property
    def graph_def(self) -> Any:
        """The graph as a GraphDef, with static shapes where `graph_options.infer_shapes` asks for them."""
        config = self._config
        return self._graph.as_graph_def(
            add_shapes=config is not None and config.graph_options.infer_shapes
        )

    @property
    def sess_str(self) -> Any:
        """The target."""
        return self._target

    # ---- running

    def run(
        self, fetches: Any, feed_dict: Any = None, options: Any = None, run_metadata: Any = None
    ) -> Any:
        """Computes `fetches` and runs everything they depend on, once.

        fetches: a tensor, an operation, a name, or lists, tuples and dictionaries of these, nested as you like; the
        result has the same structure, with None for an operation. feed_dict: values to use in place of tensors.
        A run that fetches nothing may return before it is done: the next one that uses variables waits for it, and raises
        what it could not (memory that runs out).
        Raises RuntimeError: the session is closed. TypeError, ValueError: fetches or feeds that do not fit.
        tf.errors.OpError: an operation failed; then no variable has changed.
        """
        try:
            if options is not None or run_metadata is not None or self._has_run_options:
                return self._run_with_options(fetches, feed_dict, options, run_metadata)
            kind = fetches.__class__
            if (kind is Tensor or kind is Operation) and feed_dict.__class__ is dict:
                # The shortest way, for what loops do most: one tensor or operation, fed tensors.
                prepared = self._prepared.get((fetches, *feed_dict))
                if (
                    prepared is not None
                    and prepared.mutations == self._graph._mutations
                    and not self._closed
                ):
                    arrays = list(map(feeding.to_array, prepared.tensors, feed_dict.values()))
                    if self._late.pending is not None:
                        self._late.settle(wait=prepared.waits)
                    if kind is Operation:
                        prepared.execute(arrays)
                        return None
                    return to_result((prepared.step.direct or prepared.step.run)(arrays)[0])
            if kind is Tensor or kind is Operation:
                key: Any = fetches
            elif kind is list or kind is tuple:
                key = (kind, *fetches)
            else:
                key = None
            if not feed_dict:
                try:
                    prepared = self._prepared.get(key) if key is not None else None
                except TypeError:  # a nested list is no key
                    key = prepared = None
                if prepared is None or self._closed or prepared.mutations != self._graph._mutations:
                    prepared = self._prepare(key, fetches, ())
                if prepared.raw is not None:
                    return prepared.raw()
                if self._late.pending is not None:
                    self._late.settle(wait=prepared.waits)
                return self._finish(prepared, prepared.execute([]))
            return self._run_fed(key, fetches, feed_dict)
        except Exception as error:
            short = self._failure(error)
            if short is None:
                raise
            raise short from short.__cause__

    def _failure(self, error: Exception) -> Exception | None:
        """What a failing run raises in place of `error`; None: that itself."""
        if self._closed and isinstance(error, errors.FailedPreconditionError):
            # Its variables went while it ran.
            error = errors.CancelledError(None, None, "Session has been closed.")
        return shortened(error)

    def _run_fed(self, key: Any, fetches: Any, feed_dict: Any) -> Any:
        try:
            key = (key, *feed_dict) if key is not None else None
            prepared = self._prepared.get(key) if key is not None else None
        except TypeError:
            key = prepared = None
        if prepared is None or self._closed or prepared.mutations != self._graph._mutations:
            prepared, arrays = self._prepare_fed(key, fetches, feed_dict)
        else:
            arrays = list(map(feeding.to_array, prepared.tensors, feed_dict.values()))
        if self._late.pending is not None:
            self._late.settle(wait=prepared.waits)
        if prepared.single:
            return to_result(prepared.execute(arrays)[0])
        return self._finish(prepared, prepared.execute(arrays))

    def _prepare_fed(self, key: Any, fetches: Any, feed_dict: Any) -> tuple[_Prepared, list[Any]]:
        pairs = self._feed_pairs(feed_dict)
        tensors = tuple(t for t, _ in pairs)
        # The key stands for the pairs only where each key of the dictionary is the tensor itself.
        direct = len(tensors) == len(feed_dict) and all(
            k is t for k, t in zip(feed_dict, tensors, strict=True)
        )
        prepared = self._prepare(key if direct else None, fetches, tensors)
        return prepared, [feeding.to_array(t, v) for t, v in pairs]

    def _prepare_run(self, fetches: Any, feed_dict: Any) -> tuple[_Prepared, list[Any]]:
        """What is to run, and the fed arrays."""
        return self._prepare_fed(None, fetches, feed_dict or {})

    def _feed_pairs(self, feed_dict: Any) -> list[tuple[Tensor, Any]]:
        if not hasattr(feed_dict, "items"):
            raise TypeError(f"feed_dict must be a dictionary, got {type(feed_dict).__name__}")
        from headrace.core import nest

        if any(isinstance(k, (list, tuple, dict)) for k in feed_dict):
            feed_dict = nest.flatten_dict_items(feed_dict)
        self._check_open()
        pairs = feeding.expand(self._graph, feed_dict)
        for tensor, _ in pairs:
            if not self._graph.is_feedable(tensor):
                raise ValueError(f"Tensor {tensor} may not be fed.")
        return pairs

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("Attempted to use a closed Session.")
        if self._graph.version == 0:
            raise RuntimeError(
                "The Session graph is empty.  Add operations to the graph before calling run()."
            )

    def _prepare(self, key: Any, fetches: Any, tensors: tuple[Tensor, ...]) -> _Prepared:
        self._check_open()
        parsed = Fetches(self._graph, fetches)
        known = self._prepared_step(parsed, tensors)
        step = known.step
        prepared = _Prepared(step, parsed, tensors, known.execute)
        # Nothing to compute: the hot path of an operation that only orders others.
        prepared.raw = self._nothing_to_do(step, parsed)
        if key is not None:
            with self._lock:
                self._prepared[key] = prepared
        return prepared

    def _prepared_step(self, parsed: Fetches, tensors: tuple[Tensor, ...]) -> _Prepared:
        """Steps are shared between the forms in which the same things are fetched."""
        key = ("step", tuple(parsed.tensors), tuple(parsed.targets), tensors)
        found = self._prepared.get(key)
        if found is None or found.mutations != self._graph._mutations:
            step = self._make_step(parsed, tensors)
            run = late_step(step, self._late) or step.run
            found = _Prepared(step, parsed, tensors, run)
            found.raw = None
            with self._lock:
                self._prepared[key] = found
        return found

    def _make_step(self, parsed: Fetches, tensors: tuple[Tensor, ...]) -> Step:
        """Plans a step, over several devices where its operations are on several."""
        parts = self._graph, parsed.tensors, parsed.targets, tensors, self._resources
        step = Step(*parts)
        if step.has_old_control_flow:
            return FlowStep(*parts)
        device_of = self._device_of(step.ops)
        if device_of is not None:
            together = self._rematerialize is None
            step = DeviceStep(*parts, device_of=device_of, together=together)
        step.rematerialize = self._rematerialize
        step.compute_narrow(self._mixed_precision.narrow(step, self._placement.device))
        return step

    def _device_of(self, ops: list[Operation]) -> Callable[[Operation], devices.Device] | None:
        """Places operations that are to run: the device of each, or None where all are on JAX's own choice."""
        with self._lock:
            self._placement.place(self._graph, ops)
        return None if self._placement.on_default_device(ops) else self._placement.device

    def _interruptible(self, step: Step | FlowStep) -> DeviceStep | FlowStep:
        """The step as one that can be left before its end: another thread runs it, whatever its devices."""
        if isinstance(step, (DeviceStep, FlowStep)):
            return step
        found = self._interruptible_steps.get(step)
        if found is None:
            parts = self._graph, step.fetches, step.targets, step.feeds, self._resources
            found = DeviceStep(*parts, device_of=self._placement.device)
            found.rematerialize = self._rematerialize
            found.compute_narrow(step.narrow)
            self._interruptible_steps[step] = found
        return found

    @staticmethod
    def _nothing_to_do(step: Step, parsed: Fetches) -> Callable[[], Any] | None:
        if not step.is_empty:
            return None
        build = parsed.build
        return lambda: build([])

    @staticmethod
    def _finish(prepared: _Prepared, results: Any) -> Any:
        if prepared.single:
            return to_result(results[0])
        return prepared.build([to_result(r) for r in results])

    def _run_with_options(
        self, fetches: Any, feed_dict: Any, options: Any, run_metadata: Any
    ) -> Any:
        from headrace.session import metadata

        return metadata.run(self, fetches, feed_dict, options, run_metadata)

    def make_callable(
        self, fetches: Any, feed_list: Any = None, accept_options: bool = False
    ) -> Callable[..., Any]:
        """A function that runs `fetches` with values for the tensors of `feed_list` by position; cheaper than `run`.

        With accept_options it takes `options` and `run_metadata` too. Raises TypeError: feed_list is not a list.
        """
        if feed_list is not None and not isinstance(feed_list, (list, tuple)):
            raise TypeError("`feed_list` must be a list or tuple.")
        feeds = list(feed_list or ())
        self._check_open()
        prepared = self._prepare(
            None, fetches, tuple(t for k in feeds for t in feeding.feed_tensors(self._graph, k))
        )
        direct = all(k is t for k, t in zip(feeds, prepared.tensors, strict=False)) and len(
            feeds
        ) == len(prepared.tensors)

        def run_prepared(*values: Any, options: Any = None, run_metadata: Any = None) -> Any:
            if len(values) != len(feeds):
                raise TypeError(
                    f"the callable takes {len(feeds)} values for its feed_list, got {len(values)}"
                )
            given = options is not None or run_metadata is not None
            if given and not accept_options:
                raise TypeError("the callable was made without accept_options=True")
            changed = self._closed or prepared.mutations != self._graph._mutations
            if given or changed or not direct or self._has_run_options:
                return self.run(
                    fetches, dict(zip(feeds, values, strict=True)), options, run_metadata
                )
            try:
                arrays = [
                    feeding.to_array(t, v) for t, v in zip(prepared.tensors, values, strict=True)
                ]
                if self._late.pending is not None:
                    self._late.settle(wait=prepared.waits)
                return self._finish(prepared, prepared.execute(arrays))
            except Exception as error:
                short = self._failure(error)
                if short is None:
                    raise
                raise short from short.__cause__

        return run_prepared

    def _make_callable_from_options(self, callable_options: Any) -> Callable[..., list[Any]]:
        """As `make_callable`, from a CallableOptions proto; what it returns gives the list of the fetched values."""
        names, targets = (
            list(callable_options.fetch),
            [f"{t}".split(":")[0] for t in callable_options.target],
        )
        options = callable_options.run_options if callable_options.HasField("run_options") else None
        call = self.make_callable(
            [*names, *targets], list(callable_options.feed), accept_options=True
        )

        def run(*values: Any, run_metadata: Any = None) -> list[Any]:
            return call(*values, options=options, run_metadata=run_metadata)[: len(names)]

        return run

    # ---- partial runs

    def partial_run_setup(self, fetches: Any, feeds: Any = None) -> str:
        """Declares what several `partial_run` calls will feed and fetch, each once; returns their handle.

        Raises InvalidArgumentError: nothing to fetch. TypeError: a feed that is no tensor.
        """
        self._check_open()
        feeds = feeds if isinstance(feeds, (list, tuple)) else [] if feeds is None else [feeds]
        tensors: list[Tensor] = []
        for feed in feeds:
            try:
                tensors += feeding.feed_tensors(self._graph, feed)
            except TypeError as error:
                raise TypeError(f"Cannot interpret feed_list key as Tensor: {error}") from None
        parsed = Fetches(self._graph, fetches)
        if not parsed.tensors and not parsed.targets:
            raise errors.InvalidArgumentError(
                None, None, "Must specify at least one target to fetch or execute."
            )
        parts = self._graph, parsed.tensors, parsed.targets, tensors, self._resources
        run = PartialRun(*parts, self._device_of)
        self._partial_runs[run.handle] = run
        return run.handle

    def partial_run(self, handle: str, fetches: Any, feed_dict: Any = None) -> Any:
        """Goes on with a partial run: adds `feed_dict` to what was fed and computes `fetches`.

        Raises InvalidArgumentError: something that was not set up, or was fed or fetched already.
        """
        self._check_open()
        run = self._partial_runs.get(handle)
        if run is None:
            raise errors.InvalidArgumentError(
                None, None, "Must run PartialRunSetup before PartialRun!"
            )
        parsed = Fetches(self._graph, fetches)
        fed = [(t, feeding.to_array(t, v)) for t, v in self._feed_pairs(feed_dict or {})]
        try:
            self._late.settle()
            values = run.run(parsed.tensors, parsed.targets, fed)
        except Exception as error:
            short = self._failure(error)
            if short is None:
                raise
            raise short from short.__cause__
        return parsed.build([to_result(v) for v in values])

    # ---- life

    def close(self) -> None:
        """Ends the session; its variables are gone and it refuses to run. Closing twice does nothing.

        Raises tf.errors.OpError: the last run had returned already, and failed. The session is closed all the same.
        """
        if not self._closed:
            self._closed = True
            self._prepared.clear()
            try:
                self._late.settle()
            except Exception as error:
                short = shortened(error)
                if short is None:
                    raise
                raise short from short.__cause__
            finally:
                self._resources.close()

    def __del__(self) -> None:
        # Threads that work ahead for the session's iterators hold its state but not the session: they end with it.
        self._closed = True
        resources = getattr(self, "_resources", None)
        if resources is not None:
            resources.stop()
            self._late.report()

    def as_default(self) -> Any:
        """A block in which this is the default session of the thread; leaving it does not close the session."""
        return default.session_as_default(self)

    def list_devices(self) -> list[DeviceAttributes]:
        """The devices that the session can use; the graph may be empty."""
        if self._closed:
            raise RuntimeError("Attempted to use a closed Session.")
        return [attributes(device) for device in self._devices]

    @property
    def _devices(self) -> tuple[devices.Device, ...]:
        """The devices, asked for when they are first needed: JAX starts then."""
        if not self._known_devices:
            self._known_devices = devices.local_devices(self._config)
        return self._known_devices


def _refuse(target: str) -> None:
    """Raises for the address of a master: sessions run in this process."""
    if target.startswith("grpc://"):
        raise errors.UnimplementedError(
            None,
            None,
            f"Session: no connection to {target!r}; only target='' runs, in this process",
        )
    raise errors.NotFoundError(
        None,
        None,
        f'No session factory registered for the given session options: {{target: "{target}"}}. Only "" runs here.',
    )


def to_result(value: Any) -> Any:
    """What `run` returns for a computed value: an array that belongs to the caller, or a NumPy scalar."""
    kind = value.__class__
    if kind is ARRAY or kind is np.ndarray:
        if kind is np.ndarray and is_owned(value):
            return value
        # A copy: the buffer may be a variable's, a constant's or a feed, and the caller may write into the result.
        array = np.array(value)
        return array if array.ndim else array[()]
    return value


class Session(BaseSession):
    """A session that is the default one inside its `with` block, and closed when the block ends."""

    def __init__(self, target: str = "", graph: Graph | None = None, config: Any = None) -> None:
        super().__init__(target, graph, config)
        self._blocks: contextlib.ExitStack | None = None

    def __enter__(self) -> Session:
        if self._closed:
            raise RuntimeError("Attempted to use a closed Session.")
        if self._blocks:
            raise RuntimeError(
                "Session context managers are not re-entrant. Use `Session.as_default()` if you want to "
                "enter a session multiple times."
            )
        blocks = contextlib.ExitStack()
        blocks.enter_context(self._graph.as_default())
        blocks.enter_context(self.as_default())
        self._blocks = blocks
        return self

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        blocks, self._blocks = self._blocks, None
        try:
            if blocks is not None:
                blocks.close()
        finally:
            try:
                self.close()
            except Exception as error:
                if value is None:
                    raise
                # What the block has raised counts for more.
                value.add_note(f"Closing the session, too: {error}")

    @staticmethod
    def reset(target: str, containers: Any = None, config: Any = None) -> None:
        """Clears the resource containers of a remote target; in this process sessions share nothing."""
        if not target:
            return
        raise errors.UnimplementedError(None, None, f"Session.reset: no connection to {target!r}")


class InteractiveSession(BaseSession):
    """A session that makes itself (and its graph) the default until it is closed."""

    _count_lock = threading.Lock()
    _active_session_count = 0

    def __init__(self, target: str = "", graph: Graph | None = None, config: Any = None) -> None:
        # What is typed in at a prompt fails when it is run, not because something else in the graph cannot be placed.
        if config is None or isinstance(config, config_pb2.ConfigProto):
            given, config = (
                config,
                config_pb2.ConfigProto(graph_options={"place_pruned_graph": True}),
            )
            if given is not None:
                config.MergeFrom(given)
                config.graph_options.place_pruned_graph = True
        super().__init__(target, graph, config)
        with InteractiveSession._count_lock:
            if InteractiveSession._active_session_count > 0:
                warnings.warn(
                    "An interactive session is already active. This can cause out-of-memory errors in some "
                    "cases. You must explicitly call `InteractiveSession.close()` to release "
                    "resources held by the other session(s).",
                    stacklevel=2,
                )
            InteractiveSession._active_session_count += 1
        self._explicit_graph = graph
        self._graph_block = None
        if graph is not None:
            self._graph_block = graph.as_default()
            self._graph_block.__enter__()
        default.push_session(self)

    def close(self) -> None:
        """Ends the session and gives back the place of the default session."""
        if self._closed:
            return
        try:
            super().close()
        finally:
            with InteractiveSession._count_lock:
                InteractiveSession._active_session_count -= 1
            default.pop_session(self)
            if self._graph_block is not None:
                self._graph_block.__exit__(None, None, None)
                self._graph_block = None
