"""What flows in a dataset's variant: a recipe for elements, and what its iterators share.

A `Dataset` gives, for each iterator, a function that returns the next element: a tuple of arrays, or None at the end. When
it raises, the next call goes on behind the element that failed.
"""

from __future__ import annotations

import atexit
import copy
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from headrace.core import errors
from headrace.core.tensor_shape import TensorShape
from headrace.graph.func_graph import GraphFunction, function_named
from headrace.graph.op_def import Effect, OpDef, define
from headrace.graph.operation import Operation
from headrace.lowering import context as running
from headrace.lowering.state import Slot
from headrace.lowering.tensor_list import DeviceList, HostList

Element = tuple[Any, ...]
GetNext = Callable[[], Element | None]

INFINITE, UNKNOWN = -1, -2
AUTOTUNE = -1


class IteratorContext:
    """What the parts of one iterator share: functions, seeds, caches, threads. `cancel` stops those that wait."""

    _alive: weakref.WeakSet[IteratorContext] = weakref.WeakSet()

    def __init__(self) -> None:
        step = running.current_step()
        self.step = step
        self.functions = step.kept_functions()
        self.shared: dict[Any, Any] = {}  # seeds and caches, by the place in the pipeline
        self.optimize = False  # whether shuffling and repeating are fused
        self.any_order = False  # whether what is ready first may come first
        self.cancelled = False
        self._lock = threading.Lock()
        self._conditions: weakref.WeakSet[threading.Condition] = weakref.WeakSet()
        self._threads: list[threading.Thread] = []
        self._when_cancelled: list[Callable[[], None]] = []
        IteratorContext._alive.add(self)

    def share(self, key: Any, make: Callable[[], Any]) -> Any:
        """The thing under `key`, made the first time."""
        with self._lock:
            if key not in self.shared:
                self.shared[key] = make()
            return self.shared[key]

    def condition(self) -> threading.Condition:
        """A condition whose waiters wake up when the iterator is cancelled."""
        made = threading.Condition()
        with self._lock:
            self._conditions.add(made)
        return made

    def start(self, target: Callable[[], None]) -> None:
        """Runs `target` in a thread; it has to end when the iterator is cancelled."""
        thread = threading.Thread(target=target, name="headrace-data", daemon=True)
        with self._lock:
            self._threads = [t for t in self._threads if t.is_alive()]
            self._threads.append(thread)
        thread.start()

    def when_cancelled(self, callback: Callable[[], None]) -> None:
        """Has `callback` called at the end."""
        with self._lock:
            self._when_cancelled.append(callback)

    def check(self) -> None:
        """Raises CancelledError: the iterator, or its session, is closed."""
        if self.cancelled:
            raise errors.CancelledError(None, None, "Iterator was cancelled: its session is closed")

    def cancel(self) -> None:
        """Ends the threads, and what waits for them."""
        with self._lock:
            if self.cancelled:
                return
            self.cancelled = True
            conditions, callbacks = list(self._conditions), self._when_cancelled
            self._when_cancelled = []
        for condition in conditions:
            with condition:
                condition.notify_all()
        for callback in callbacks:
            callback()

    def join(self, seconds: float) -> None:
        """Waits for the threads to end, but no longer than that."""
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(seconds)


@atexit.register
def _stop_all() -> None:
    """No thread may be inside of a program while Python ends."""
    alive = list(IteratorContext._alive)
    for context in alive:
        context.cancel()
    for context in alive:
        context.join(1.0)


class Dataset:
    """One transformation, with its input datasets."""

    kind = ""  # in the names of iterators, from which seeds and caches are found

    def __init__(self, op: Operation, *inputs: Dataset) -> None:
        self.op, self.inputs = op, inputs
        attrs = op._attrs
        self.types: Sequence[Any] = attrs.get("output_types") or attrs.get("Toutput_types") or ()
        self.shapes: Sequence[TensorShape] = attrs.get("output_shapes") or ()
        self.kind = op.type.removesuffix("V2").removesuffix("Dataset")

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        """A new iteration. prefix: the path from the iterator to here."""
        raise NotImplementedError

    def start(self, context: IteratorContext, prefix: str) -> GetNext:
        """A new iteration, whose path ends in this dataset."""
        return self.iterate(context, f"{prefix}::{self.kind}")

    @property
    def row_arrays(self) -> list[np.ndarray] | None:
        """The arrays of which the elements are rows, where they are that: then `iterate_rows` tells which."""
        return None

    def iterate_rows(self, context: IteratorContext, prefix: str) -> Callable[[], int | None]:
        """As `iterate`, but what comes is the number of a row. A batch of rows is gathered in one go."""
        raise NotImplementedError

    def start_rows(self, context: IteratorContext, prefix: str) -> Callable[[], int | None]:
        """As `start`, of rows."""
        return self.iterate_rows(context, f"{prefix}::{self.kind}")

    def cardinality(self) -> int:
        """The number of elements, INFINITE or UNKNOWN."""
        return UNKNOWN

    def with_inputs(self, inputs: Sequence[Dataset]) -> Dataset:
        """The same transformation of other datasets."""
        changed = copy.copy(self)
        changed.inputs = tuple(inputs)
        return changed

    @property
    def source(self) -> Dataset:
        """The only input."""
        return self.inputs[0]


class Held(Dataset):
    """Elements that are there already: those of a window."""

    def __init__(
        self,
        op: Operation,
        elements: Sequence[Element],
        types: Sequence[Any],
        shapes: Sequence[TensorShape],
    ) -> None:
        super().__init__(op)
        self._elements, self.types, self.shapes = elements, types, shapes
        self.kind = "WindowDataset"

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        elements = iter(self._elements)
        return lambda: next(elements, None)

    def cardinality(self) -> int:
        return len(self._elements)


class Captured:
    """A function that a dataset keeps, with the values that it captured."""

    def __init__(self, op: Operation, attr: str, values: Iterable[Any]) -> None:
        self.function: GraphFunction = function_named(op, op._attrs[attr].name)
        self._op = op
        captured = list(values)
        first = len(self.function.graph.inputs) - len(captured)
        self._values = [v for v in captured if not isinstance(v, Slot)]
        self._bound = {first + i: v.key for i, v in enumerate(captured) if isinstance(v, Slot)}

    def instantiate(self, context: IteratorContext) -> Callable[[Sequence[Any]], list[Any]]:
        """The function for one iterator: takes the components of an element, returns the outputs."""
        return self.step(context)[0]

    def step(self, context: IteratorContext) -> tuple[Callable[[Sequence[Any]], list[Any]], Any]:
        """The function, and the step that it runs (`runtime.function_step`)."""
        step = context.functions.step(self.function, self._bound)
        values, op = self._values, self._op
        call, count = step.call, len(step.feeds) - len(self._values)

        def apply(arguments: Sequence[Any]) -> list[Any]:
            if len(arguments) != count:
                raise op.invalid(
                    f"the function {self.function.name!r} takes {count} components, the element has {len(arguments)}"
                )
            return call([*arguments, *values] if values else arguments)

        return apply, step


def _scalar(op: Operation, *inputs: Any) -> Any:
    return ()


def define_dataset(
    name: str, arguments: str, attrs: str = "", stateful: bool = False
) -> Callable[[Callable[..., Dataset]], Callable[..., Dataset]]:
    """Defines an op whose output is a dataset; decorates its host rule, which takes the op and its inputs."""
    definition = define(
        name,
        f"{arguments} -> handle: variant",
        attrs,
        effects=Effect.STATEFUL if stateful else Effect.NONE,
        host_only=True,
        keeps_functions="func" in attrs,
    )
    definition.shape(_scalar)
    definition.not_differentiable()

    def attach(rule: Callable[..., Dataset]) -> Callable[..., Dataset]:
        # In an array of objects, so that datasets can be stacked and selected as other values are.
        definition.host(lambda *arguments: as_array(rule(*arguments)))
        return rule

    return attach


TYPES = "output_types: list(type) >= 1, output_shapes: list(shape) >= 1"
"""The attrs that say what the elements are."""


def dataset_of(op: Operation, value: Any) -> Dataset:
    """The dataset in a variant. Raises InvalidArgumentError: it holds something else."""
    if isinstance(value, np.ndarray) and value.shape == ():
        value = value[()]
    if not isinstance(value, Dataset):
        raise op.invalid(f"The given variant tensor holds no dataset but a {type(value).__name__}.")
    return value


def scalar_argument(op: Operation, value: Any, name: str) -> Any:
    """The value of an argument as a Python number or bytes. Raises InvalidArgumentError: not a scalar."""
    array = np.asarray(value)
    if array.ndim:
        raise op.invalid(f"{name} must be a scalar")
    return array[()] if array.dtype == object else array.item()


def vector_argument(op: Operation, value: Any, name: str) -> list[Any]:
    """The elements of an argument: a vector, or a scalar. Raises InvalidArgumentError: of a higher rank."""
    array = np.asarray(value)
    if array.ndim > 1:
        raise op.invalid(f"{name} must be a scalar or a vector")
    return array.reshape(-1).tolist()


def as_array(value: Any) -> np.ndarray:
    """A component as an array: what is not one (a dataset in a variant) becomes a scalar of objects. Lists stay lists."""
    if isinstance(value, (np.ndarray, HostList, DeviceList)):
        return value  # type: ignore[return-value]
    if isinstance(value, np.generic):
        return np.asarray(value)
    array = np.empty((), object)
    array[()] = value
    return array


def handle_definition(name: str, arguments: str, attrs: str) -> OpDef:
    """Defines an op that makes a resource of the host."""
    definition = define(
        name, arguments, attrs, effects=Effect.STATEFUL | Effect.HANDLE, host_only=True
    )
    definition.not_differentiable()
    return definition
