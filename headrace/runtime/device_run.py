"""One run of a step over several devices: the values on each, its view of the state, and its end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from headrace.graph.tensor import Tensor
from headrace.lowering.evaluate import Values
from headrace.lowering.jax_adapter import ARRAY
from headrace.lowering.state import StateView
from headrace.lowering.tensor_list import DeviceList, HostList
from headrace.runtime.device_executor import Execution, Node, timed_out
from headrace.runtime.devices import Device
from headrace.runtime.missing import uninitialised
from headrace.runtime.owned import apart_from
from headrace.runtime.programs import Watch
from headrace.runtime.rendezvous import LocalRendezvous
from headrace.runtime.shared_writes import SharedWrites
from headrace.runtime.waiting import closed

if TYPE_CHECKING:
    from headrace.runtime.device_step import DeviceStep


class Run:
    """One run of a DeviceStep: the values on each device, its view of the state, and its end."""

    def __init__(
        self,
        step: DeviceStep,
        feed_values: list[Any],
        interpreted: bool,
        deadline: float | None,
        watch: Watch | None = None,
    ) -> None:
        self.step, self.interpreted, self._deadline = step, interpreted, deadline
        self.watch = watch
        self.feeds: Values = dict(zip(step.feeds, feed_values, strict=True))
        self.values: dict[str, Values] = {
            name: {t: placed(v, device) for t, v in self.feeds.items()}
            for name, device in step._devices.items()
        }
        self.shared: SharedWrites | None = None
        self.state = StateView(step.load)
        if step._shared is not None:
            self.state = StateView(step.load_copy)
            self.shared = SharedWrites(
                step.resources,
                self.state,
                step._shared,
                self.values.values(),
                step.at_home,
                lambda: self._execution.error is not None,
            )
        self._copies: dict[str, Any] = {}
        self.early_state = StateView(self._copy_of)
        self._execution = Execution(
            step._nodes,
            step._arrivals,
            LocalRendezvous(),
            lambda node: step.run_node(self, node),
            self._take,
            self._put,
        )

    def close(self) -> None:
        """Ends the run because the session is closed."""
        self._execution.abort(closed())

    # ---- as the rules of operations see it

    def check(self) -> None:
        """Raises the error that ended the run, if one has."""
        if self._execution.error is not None:
            raise self._execution.error

    def call_out(self, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        """Calls a function that may take any time, here: nobody waits for this thread who could not leave."""
        self.check()
        return function(*arguments)

    # ---- from the beginning to the end

    def results(self) -> list[Any]:
        """Runs everything and files what was written. Raises the first error; nothing has changed then."""
        step, execution = self.step, self._execution
        try:
            if step._early:
                with self._locked(bool(step._early_keys)):
                    self._copy_state()
                execution.start()
                self._check(execution.wait_for_others(self._remaining()))
                with self._locked(step._needs_lock):
                    execution.give_state()
                    return self._end()
            with self._locked(step._needs_lock):
                execution.start()
                return self._end()
        except BaseException as error:
            execution.abort(error)  # whatever has not started need not
            if self.shared is not None:
                self.shared.take_back()
            raise

    @contextlib.contextmanager
    def _locked(self, needed: bool) -> Iterator[None]:
        """Holds the lock of the session where it is needed."""
        if not needed:
            yield
            return
        remaining = self._remaining()
        if not self.step.resources.lock.acquire(timeout=-1 if remaining is None else remaining):
            raise timed_out()
        try:
            yield
        finally:
            self.step.resources.lock.release()

    def state_of(self, node: Node) -> StateView:
        """The state as a node sees it."""
        return self.early_state if node.number in self.step._early else self.state

    def release(self) -> None:
        """Lets go of all values: the run and its execution refer to each other, and wait for the garbage collector."""
        self.values, self.feeds, self._copies, self.shared = {}, {}, {}, None
        self.state = self.early_state = StateView(self.step.load)

    def _end(self) -> list[Any]:
        step = self.step
        self._check(self._execution.wait(self._remaining()))
        newest = self.state.written if self.shared is None else {}  # filed segment by segment
        written = {k: step.at_home(k, v) for k, v in newest.items()}
        results = [step.value_of(t, self) for t in step.fetches]
        if self._deadline is not None:
            self._wait_for_values([*results, *written.values()])
        results = apart_from(results, (*written.values(), *step.stored_values()))
        if self._execution.error is not None:
            raise self._execution.error
        step.commit(written)
        if self.shared is not None:
            self.shared.keep()
        return results

    def _copy_state(self) -> None:
        for key in self.step._early_keys:
            value = self.step.resources.cell(key).value
            if value is not None:
                self._copies[key] = np.asarray(value) if value.__class__ is ARRAY else value

    def _copy_of(self, key: str) -> Any:
        if key not in self._copies:
            raise uninitialised(self.step.order.initial_reads.get(key), key)
        return self._copies[key]

    def _remaining(self) -> float | None:
        if self._deadline is None:
            return None
        return max(0.0, self._deadline - time.monotonic())

    def _check(self, in_time: bool) -> None:
        if not in_time:
            self._execution.abort(timed_out())
        if self._execution.error is not None:
            raise self._execution.error

    def _wait_for_values(self, values: Sequence[Any]) -> None:
        """Waits for what devices still compute; a program cannot be stopped, but it need not be waited for."""
        waiting = [v for v in values if v.__class__ is ARRAY]
        while waiting := [v for v in waiting if not v.is_ready()]:
            self._check(self._remaining() != 0.0)
            time.sleep(0.0005)

    def _take(self, node: Node, what: Tensor | None, target: Device) -> Any:
        if what is None:
            return None
        return placed(self.values[self.step.device_of(what._op).name][what], target)

    def _put(self, device: Device, what: Tensor | None, value: Any) -> None:
        if what is not None:
            self.values[device.name][what] = value


class StateOnDevice(StateView):
    """The state of a run as operations on one device see it: values that are elsewhere come to them."""

    __slots__ = ("_device", "_whole")

    def __init__(self, whole: StateView, device: Device) -> None:
        self._whole, self._device = whole, device

    def read(self, key: str, version: int) -> Any:
        """The value that write number `version` left, on the device."""
        return placed(self._whole.read(key, version), self._device)

    def write(self, key: str, version: int, value: Any) -> None:
        """Sets what write number `version` leaves."""
        self._whole.write(key, version, value)

    def has(self, key: str, version: int) -> bool:
        """Whether the version is known to the run."""
        return self._whole.has(key, version)

    def write_rows(
        self, key: str, before: int, version: int, kind: str, where: Any, updates: Any
    ) -> None:
        """Sets what write number `version` leaves: version `before` with some rows changed."""
        self._whole.write_rows(key, before, version, kind, where, updates)


def placed(value: Any, device: Device) -> Any:
    """`value` on `device`; what NumPy holds is on every device."""
    kind = value.__class__
    if kind is ARRAY:
        here, there = value.device, device.physical
        if here is there:
            return value
        if here.platform == "cpu" and there.platform == "cpu":
            # One memory. This waits for the value, but costs a twentieth of `device_put`; a buffer that NumPy looks at
            # is never written in place.
            return np.asarray(value)
        return jax.device_put(value, there)
    if kind is HostList:
        return HostList(value.dtype, tuple(placed(item, device) for item in value.items))
    if kind is DeviceList:
        return jax.device_put(value, device.physical)
    return value
