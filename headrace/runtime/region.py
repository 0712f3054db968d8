"""A segment that the devices of all replicas run together, as one program: what goes into it, the call, and what comes out.

Where the replicas' values differ in shape (a last batch that does not divide), or the program turns out to be none, the
operations run as they would without it: programs of single devices, one after the other.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from headrace.core import errors
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.lowering.checks import RoomExceeded, raise_if_failed
from headrace.lowering.evaluate import Values
from headrace.lowering.island import Island
from headrace.lowering.jax_adapter import ARRAY, end_to_end, shards_of
from headrace.lowering.not_compilable import NotCompilable
from headrace.lowering.spmd import Program
from headrace.lowering.state import StateView
from headrace.lowering.tensor_list import double_room
from headrace.passes.device_split import split_by_device
from headrace.passes.state_order import INITIAL, names_variable
from headrace.runtime.devices import Device
from headrace.runtime.island_plan import island_of, spmd_island_of

if TYPE_CHECKING:
    from headrace.runtime.device_step import DeviceStep
    from headrace.runtime.programs import Watch

_log = logging.getLogger("headrace")

# Programs of several devices wait for one another inside: started in two orders on two devices they would for ever.
_launch = threading.Lock()


# What a program tells of its checks: whether one failed, which, and the values of the messages.
_CHECKS = 3


class _Uneven(Exception):
    """The values of the replicas differ in shape or type."""


class Whole(NamedTuple):
    """The values of the replicas, and the same as one array of all devices."""

    parts: tuple[Any, ...]
    array: Any

    @property
    def is_scalar(self) -> bool:
        """Whether the values are scalars."""
        return not self.parts[0].shape


class Region:
    """One program of all replicas in the plan of a step."""

    def __init__(self, step: DeviceStep, number: int, devices: Sequence[Device]) -> None:
        self._step, self._number, self.devices = step, number, tuple(devices)
        physical = [d.physical for d in devices]
        self.island, self._deliveries = spmd_island_of(
            number,
            f"replicas_{number}",
            step.ops,
            step.device_split,
            step.order,
            step.fetches,
            step.fed,
            physical,
        )
        self._physical = physical
        self._waits = any(d.platform == "cpu" for d in physical)
        self._calls = any(op._definition.function_attrs for op in self.island.ops)
        self._is_program = True
        self._apart: list[tuple[Device, Island]] | None = None
        # By variable: the arrays of the replicas, and the same as one. All steps of a session share them.
        mesh = tuple(physical)
        self._whole: dict[str, Whole] = step.resources.get_or_make(
            ("arrays of replicas", mesh), dict
        )
        self._constants: tuple[Whole, ...] | None = None

    # ---- running

    def run(
        self,
        values: Mapping[str, Values],
        state: StateView,
        interpreted: bool,
        watch: Watch | None = None,
        alone: bool = False,
    ) -> None:
        """Computes the values that others want, into `values` (by device), and writes `state`.

        alone: it is all of the step, and the lock of the session is held until what is written is filed: the program may
        write over what it reads.
        """
        if interpreted or self._lacks_state(state):
            self._interpret(values, state)
            return
        if self._is_program:
            try:
                self._run_program(values, state, watch, alone)
                return
            except _Uneven as uneven:
                _log.info("replicas run one by one: %s", uneven)
            except NotCompilable as reason:
                self._is_program = False
                _log.info("replicas run one by one: %s", reason)
        self._run_apart(values, state, watch)

    def _given(self, values: Mapping[str, Values], tensor: Tensor) -> Any:
        return values[self._step.device_of(tensor._op).name][tensor]

    def _lacks_state(self, state: StateView) -> bool:
        """Whether a variable has no value yet that perhaps only a branch not taken reads."""
        if not self._calls:
            return False
        cell = self._step.resources.cell
        return any(
            version == INITIAL and not state.has(key, INITIAL) and cell(key).value is None
            for first, version in (*self.island.donated, *self.island.kept)
            for key in self._keys(first)
        )

    def _keys(self, first: str) -> tuple[str, ...]:
        return self._step.device_split.keys.get(first) or (first,) * len(self.devices)

    def _run_program(
        self, values: Mapping[str, Values], state: StateView, watch: Watch | None, donate: bool
    ) -> None:
        island, step = self.island, self._step
        static = [self._known(values, tensors) for tensors in island.static_inputs]
        with jax.enable_x64(True):
            inputs = tuple(
                [
                    self._joined([self._given(values, t) for t in tensors], tensors[0].name)
                    for tensors in island.inputs
                ]
            )
            island.narrow = step.narrow
            island.find_constants()
            if self._constants is None:
                self._constants = tuple(self._joined(c, "constant") for c in island.constants)
            while True:
                donated = tuple([self._variable(state, *read) for read in island.donated])
                kept = tuple([self._variable(state, *read) for read in island.kept])
                given = (donated, kept, inputs, self._constants)
                try:
                    written = self._call(given, static, values, watch, donate)
                    break
                except RoomExceeded as exceeded:
                    double_room(exceeded.op)
                    island.forget_programs()
                    if donate:  # what was donated has been stored again
                        for first, version in island.donated:
                            for key in self._keys(first):
                                state.put(key, version, step.load(key))
        for (first, version), whole in zip(island.writes, written, strict=True):
            self._whole[first] = whole
            for key, part in zip(self._keys(first), whole.parts, strict=True):
                state.write(key, version, part)

    def _call(
        self,
        given: tuple[tuple[Whole, ...], ...],
        static: Sequence[np.ndarray],
        values: Mapping[str, Values],
        watch: Watch | None,
        donate: bool,
    ) -> list[Whole]:
        """Calls the program and files its outputs; returns what is written. Raises the error of a check that failed."""
        scalars = tuple([tuple([w.is_scalar for w in part]) for part in given])
        arguments = tuple([tuple([w.array for w in part]) for part in given])
        program = self.island.program(static, scalars, donate)
        written, outputs, outcome = self._start(program, arguments, static, watch)
        wholes = [_split(a, s) for a, s in zip(written, program.scalars[0], strict=True)]
        if outcome:
            try:
                self._raise_if_failed(outcome, program)
            except (errors.OpError, RoomExceeded):
                if len(outcome) > _CHECKS:
                    self._restore(wholes, outcome[-1], program.scalars[2][-1])
                raise
        parts = [_split(a, s).parts for a, s in zip(outputs, program.scalars[1], strict=True)]
        for delivery in self._deliveries:
            name = self.devices[delivery.replica].name
            values[name][delivery.tensor] = parts[delivery.output][delivery.replica]
        return wholes

    def _start(
        self, program: Program, arguments: tuple, static: Sequence[np.ndarray], watch: Watch | None
    ) -> tuple:
        """Starts the program, on one device after the other; waits for its end where devices share the threads."""
        with _launch:
            if watch is not None:
                results = watch[1].call(self.island, program.call, arguments, static)  # type: ignore[arg-type]
            else:
                results = program.call(*arguments)
            return jax.block_until_ready(results) if self._waits else results

    def _restore(self, written: Sequence[Whole], old: Sequence[Any], scalars: Any) -> None:
        """Stores again what was donated to a program in which a check failed."""
        newest = {key: whole for (key, _), whole in zip(self.island.writes, written, strict=True)}
        for (first, _), value, scalar in zip(self.island.donated, old, scalars, strict=True):
            whole = newest[first] if value is None else _split(value, scalar)
            self._whole[first] = whole
            for key, part in zip(self._keys(first), whole.parts, strict=True):
                self._step.resources.cell(key).value = part

    def _known(self, values: Mapping[str, Values], tensors: Sequence[Tensor]) -> np.ndarray:
        """A value that decides a shape. Raises _Uneven: the replicas have different ones."""
        arrays = [np.asarray(self._given(values, t)) for t in tensors]
        if any(not np.array_equal(a, arrays[0]) for a in arrays[1:]):
            raise _Uneven(f"{tensors[0].name} decides a shape and differs between them")
        return arrays[0]

    def _variable(self, state: StateView, first: str, version: int) -> Whole:
        """The copies of a variable as one array of all devices."""
        parts = [state.read(key, version) for key in self._keys(first)]
        known = self._whole.get(first)
        if known is not None and all(a is b for a, b in zip(known.parts, parts, strict=True)):
            return known
        # What is given away must be nobody else's: JAX shares the memory of a NumPy array.
        owned = [
            part if part.__class__ is ARRAY and part.device is device else np.array(part)
            for part, device in zip(parts, self._physical, strict=True)
        ]
        whole = self._whole[first] = Whole(tuple(parts), self._joined(owned, first).array)
        return whole

    def _joined(self, parts: Sequence[Any], name: str) -> Whole:
        """The values of the replicas as one array of all devices. Raises _Uneven: they do not fit."""
        first = parts[0]
        for other in parts[1:]:
            if other.shape != first.shape or other.dtype != first.dtype:
                shapes = ", ".join(str(list(p.shape)) for p in parts)
                raise _Uneven(f"{name} has the shapes {shapes}")
        there = [_reachable(part, device) for part, device in zip(parts, self._physical)]
        if not first.shape:
            there = [part.reshape(1) for part in there]
        return Whole(tuple(parts), end_to_end(there, self.island.sharding, self._physical))

    def _raise_if_failed(self, outcome: tuple, program: Program) -> None:
        """Raises the error of the first replica in which a check failed."""
        for replica, failed in enumerate(shards_of(outcome[0])):
            if not failed[0]:
                continue
            own = jax.tree.map(
                lambda a, s, i=replica: _split(a, s).parts[i],
                outcome[:_CHECKS],
                program.scalars[2][:_CHECKS],
            )
            flags = np.asarray(own[1])
            check = program.collector.by_count[len(flags)][int(np.argmax(flags))]
            node = self.island.node_of.get(check.op)
            # A check inside a body is the first replica's.
            op = None if node is None else node.ops[0 if node.is_single else replica]
            raise_if_failed(own, program.collector, op)

    # ---- without the program

    def _interpret(self, values: Mapping[str, Values], state: StateView) -> None:
        step, ops = self._step, self.island.ops
        here: Values = {}
        for tensors in (*self.island.inputs, *self.island.static_inputs):
            here.update((t, self._given(values, t)) for t in tensors)
        step.interpreter.add_free(ops, here)
        step.interpreter.run_step(ops, here, state)
        for delivery in self._deliveries:
            name = step.device_of(delivery.tensor._op).name
            values[name][delivery.tensor] = here[delivery.tensor]

    def _run_apart(
        self, values: Mapping[str, Values], state: StateView, watch: Watch | None
    ) -> None:
        step = self._step
        if self._apart is None:
            self._apart = self._islands_apart()
        for device, island in self._apart:
            own = values[device.name]
            for tensor in (*island.inputs, *island.static_inputs):
                if tensor not in own and tensor._op not in step.split.free:
                    own[tensor] = _moved(self._given(values, tensor), device)
            try:
                step._run_program(island, own, state, device, watch)
            except NotCompilable:
                step.interpreter.add_free(island.ops, own)
                with jax.default_device(device.physical):
                    step.interpreter.run_step(island.ops, own, state)

    def _islands_apart(self) -> list[tuple[Device, Island]]:
        step = self._step
        inside = set(self.island.ops)
        ops: list[Operation] = [
            op for op in step.ops if op in inside or op in step.split.free or names_variable(op)
        ]
        wanted = [d.tensor for d in self._deliveries]
        split = split_by_device(
            ops, step.fed, wanted, step.order, lambda op: step.device_of(op).name
        )
        return [
            (
                step.device_of(segment.ops[0]),
                island_of(
                    segment,
                    f"replicas_{self._number}_{i}",
                    step.ops,
                    split,
                    step.order,
                    step.fetches,
                    step.fed,
                    False,
                    None,
                    step.narrow,
                ),
            )
            for i, segment in enumerate(split.segments)
        ]


def _split(array: Any, is_scalar: bool) -> Whole:
    """An array of all devices with the value of each."""
    parts = shards_of(array)
    if is_scalar:
        on_cpu = parts[0].device.platform == "cpu"
        parts = tuple([np.array(p).reshape(()) if on_cpu else p.reshape(()) for p in parts])
    return Whole(parts, array)


def _reachable(value: Any, device: Any) -> Any:
    """`value` where it can be taken from to a device of JAX: there, or on the host."""
    if value.__class__ is not ARRAY or value.device is device:
        return value
    return np.asarray(value) if value.device.platform == "cpu" else jax.device_put(value, device)


def _moved(value: Any, device: Device) -> Any:
    found = _reachable(value, device.physical)
    on_cpu = device.physical.platform == "cpu"
    return found if on_cpu or found.__class__ is ARRAY else jax.device_put(found, device.physical)
