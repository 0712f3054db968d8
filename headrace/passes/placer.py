"""Which device each operation is placed on, by TensorFlow's rules.

Operations that must be together form a group: colocated ones (`_class`), and those that a reference or a resource connects
with the variable behind it. A group goes to the first device that fits what its members ask for; the first of all devices
where nobody asks. Two habits save transfers: what only looks at shapes goes where its input is, and an operation without
inputs where all its consumers are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from headrace.core import device_spec, dtypes, errors
from headrace.core.device_spec import Components
from headrace.graph.op_def import Effect
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.passes.cost_placement import Costs, schedule
from headrace.passes.segments import is_constant, runs_on_host
from headrace.passes.state_order import flat_arguments, state_key

# What stands first is preferred where a program leaves it open.
_PREFERENCE = {"TPU": 0, "GPU": 1}
_WORDS = ("jobs", "replicas", "tasks", "types", "ids")
_ANYWHERE: Components = (None, None, None, None, None)


@dataclass(slots=True)
class _Group:
    """Operations on one device: what they ask for together, and the device once it is decided.

    home: what the variables of the group ask for, which goes before what their users ask for.
    """

    wanted: Components
    cpu_only: bool
    home: Components = _ANYWHERE
    device: str | None = None
    members: list[Operation] = field(default_factory=list)


class Placer:
    """Places the operations of one graph on devices with these full names; what is placed stays where it is.

    soft: the kind and the number of a device that is not there, or that lacks a kernel, may give way; the job and the
    task may not.
    costs: where they are given, they decide for what may be on several devices, not the rules.
    """

    def __init__(
        self,
        names: Sequence[str],
        soft: bool = False,
        costs: Costs | None = None,
    ) -> None:
        parsed = [(name, device_spec.parse(name)) for name in names]
        self._devices = sorted(parsed, key=lambda d: _PREFERENCE.get(d[1][3] or "", 2))
        self._names = sorted(names)
        self._soft = soft
        self._costs = costs
        self._group_of: dict[Operation, _Group] = {}
        self._fitting: dict[tuple[Components, bool], list[str]] = {}

    def device_of(self, op: Operation) -> str | None:
        """The full name of the device of `op`, None where it is not placed."""
        group = self._group_of.get(op)
        return None if group is None else group.device

    def place(self, ops: Iterable[Operation]) -> list[Operation]:
        """Places those of `ops` that have no device yet; returns them, in the order in which they were decided.

        Raises InvalidArgumentError: a device that is not there, or demands on a group that no device meets.
        """
        new = [op for op in ops if self.device_of(op) is None]
        fresh = [op for op in new if op not in self._group_of]
        try:
            for op in fresh:
                self._group_of[op] = _Group(_parse(op), cpu_only(op), members=[op])
            for op in fresh:
                self._join_resources(op)
            for op in fresh:
                self._join_colocated(op)
            if self._costs is not None:
                self._choose_devices(new)
            return self._decide(new)
        except errors.OpError:
            # Whoever asks again gets the same answer.
            for op in new:
                self._group_of.pop(op, None)
            raise

    # ---- groups

    def _join_resources(self, op: Operation) -> None:
        if op._definition.function_attrs:
            return  # its body reads and writes from afar
        for tensor, argument in zip(op._inputs, flat_arguments(op), strict=True):
            if tensor._dtype is not dtypes.resource and not argument.is_ref:
                continue
            source = self._group_of.get(tensor._op)
            if source is None or source is self._group_of[op]:
                continue
            if source.home is _ANYWHERE and tensor._op._definition.effects & Effect.HANDLE:
                source.home = _parse(tensor._op)
            self._merge(op, tensor._op, resource=True)

    def _join_colocated(self, op: Operation) -> None:
        for text in op._attrs.get("_class") or ():
            text = text.decode() if isinstance(text, bytes) else text
            if not text.startswith("loc:@"):
                continue
            anchor = op._graph._by_name.get(text[5:])
            if anchor is not None and anchor is not op and anchor in self._group_of:
                self._merge(op, anchor)

    def _merge(self, op: Operation, anchor: Operation, resource: bool = False) -> None:
        """Puts the groups of both together. Raises InvalidArgumentError: they ask for different devices."""
        mine, other = self._group_of[op], self._group_of[anchor]
        if mine is other:
            return
        cpu_only = mine.cpu_only or other.cpu_only
        wanted = self._combined(op, mine, anchor, other, resource)
        if wanted is None:
            return
        if len(mine.members) > len(other.members):
            mine, other = other, mine
        other.wanted, other.cpu_only = wanted, cpu_only
        other.home = other.home if other.home is not _ANYWHERE else mine.home
        other.device = other.device or mine.device
        other.members += mine.members
        for member in mine.members:
            self._group_of[member] = other

    def _combined(
        self, op: Operation, mine: _Group, anchor: Operation, other: _Group, resource: bool
    ) -> Components | None:
        """What both groups together ask for; None where the request for colocation gives way to soft placement."""
        combined = []
        theirs = _demands(other)
        home = theirs if other.device else other.home
        for position, (a, b) in enumerate(zip(_demands(mine), theirs, strict=True)):
            if a is not None and b is not None and a != b:
                if resource and home[position] is not None and not mine.device:
                    # TF differs: where its kernel would not find the variable, the operation runs beside it.
                    a = home[position]
                elif not self._soft or position < 3:
                    raise self._incompatible(op, mine, anchor, other, position)
                elif mine.device or other.device:
                    return None
                else:
                    combined += [None] * (5 - position)
                    break
            combined.append(b if a is None else a)
        return tuple(combined)  # type: ignore[return-value]

    def _incompatible(
        self, op: Operation, mine: _Group, anchor: Operation, other: _Group, position: int
    ) -> errors.InvalidArgumentError:
        names = f"'{device_spec.join(*_demands(mine))}' and '{device_spec.join(*_demands(other))}'"
        where = errors.creation_site(anchor).strip()
        return errors.InvalidArgumentError(
            None,
            op,
            f"Cannot colocate nodes '{op._name}' and '{anchor._name}'{f' ({where})' if where else ''}: "
            f"Cannot merge devices with incompatible {_WORDS[position]}: {names}",
        )

    # ---- decisions

    def _choose_devices(self, new: Sequence[Operation]) -> None:
        """Has the costs decide for the groups that may be on several devices."""
        assert self._costs is not None
        placed = {op: g.device for op, g in self._group_of.items() if g.device is not None}
        found = schedule(
            [op for op in new if op not in placed],
            self._costs,
            self._allowed,
            lambda op: id(self._group_of[op]),
            placed,
        )
        for op, device in found.device_of.items():
            group = self._group_of[op]
            if group.device is None and len(self._allowed(op)) > 1:
                group.device = device

    def _allowed(self, op: Operation) -> list[str]:
        group = self._group_of[op]
        return self._devices_for(group.wanted, group.cpu_only) or self._names[:1]

    def _decide(self, new: Sequence[Operation]) -> list[Operation]:
        decided: list[Operation] = []
        later: list[Operation] = []
        for op in new:
            if _is_generator(op) and self._group_of[op].device is None:
                later.append(op)
                continue
            preferred = None
            if op._inputs and op._definition.static_rule is not None:
                preferred = self.device_of(op._inputs[0]._op)
            self._assign(op, preferred)
            decided.append(op)
        for op in later:
            self._assign(op, self._device_of_consumers(op))
            decided.append(op)
        return decided

    def _device_of_consumers(self, op: Operation) -> str | None:
        consumers = (*op._outputs[0]._consumers, *op._control_outputs_list)
        found = {self.device_of(c) for c in consumers if c in self._group_of}
        return found.pop() if len(found) == 1 else None

    def _assign(self, op: Operation, preferred: str | None) -> None:
        group = self._group_of[op]
        if group.device is not None:
            return
        fitting = self._devices_for(group.wanted, group.cpu_only)
        if not fitting and self._soft:
            soft = self._devices_for((*group.wanted[:3], None, None), group.cpu_only)
            # Where the kind of device gives way, the CPU stands in.
            fitting = [name for name in soft if ":CPU:" in name] or soft
        if not fitting:
            raise self._cannot_assign(op, group)
        group.device = preferred if preferred in fitting else fitting[0]

    def _devices_for(self, wanted: Components, cpu_only: bool) -> list[str]:
        found = self._fitting.get((wanted, cpu_only))
        if found is None:
            found = self._fitting[wanted, cpu_only] = [
                name
                for name, parts in self._devices
                if (not cpu_only or parts[3] == "CPU")
                and all(w is None or w == p for w, p in zip(wanted, parts, strict=True))
            ]
        return found

    def _cannot_assign(self, op: Operation, group: _Group) -> errors.InvalidArgumentError:
        what = f"Cannot assign a device for operation {op._name}: "
        spec = device_spec.join(*group.wanted)
        available = f"[ {', '.join(self._names)} ]"
        if _parse(op) != group.wanted:
            asking = next((m for m in group.members if _parse(m) != _ANYWHERE), op)
            where = errors.creation_site(asking).strip()
            text = (
                f"Could not satisfy explicit device specification '{op._device}' because the node "
                f"'{op._name}' was colocated with a group of nodes that required incompatible device '{spec}', "
                f"among them '{asking._name}'{f' ({where})' if where else ''}. All available devices {available}. "
                f"The group: {', '.join(sorted(m._name for m in group.members)[:10])}"
            )
        elif self._devices_for(group.wanted, False):
            text = (
                f"Could not satisfy explicit device specification '{spec}' because no supported kernel for "
                f"{group.wanted[3] or 'these'} devices is available: {op.type} runs on the CPU only. Pass "
                "tf.ConfigProto(allow_soft_placement=True) to the session to have it there."
            )
        else:
            gpu = (
                " The requested device appears to be a GPU, but CUDA is not enabled: JAX finds no GPU."
                if group.wanted[3] == "GPU" and not any(":GPU:" in n for n in self._names)
                else ""
            )
            text = (
                f"{op.type} op {op._name!r} was explicitly assigned to {spec} but available devices are "
                f"{available}. Make sure the device specification refers to a valid device, or pass "
                f"tf.ConfigProto(allow_soft_placement=True) to the session.{gpu}"
            )
        return errors.InvalidArgumentError(None, op, what + text)


def _demands(group: _Group) -> Components:
    return device_spec.parse(group.device) if group.device else group.wanted


def _parse(op: Operation) -> Components:
    return device_spec.parse(op._device) if op._device else _ANYWHERE


def cpu_only(op: Operation) -> bool:
    """Whether only the host has a kernel for `op`."""
    definition = op._definition
    if definition.host_only:
        # What asks or ends a variable is beside it, wherever that is: its rule does not look at the value.
        return not any(
            (argument.is_ref or t._dtype is dtypes.resource) and state_key(t) is not None
            for t, argument in zip(op._inputs, flat_arguments(op), strict=True)
        )
    if any(_is_text(t) for t in (*op._inputs, *op._outputs)):
        return True
    if not op._outputs and not op._inputs:
        return False  # it only orders others
    if definition.effects & Effect.HANDLE:
        return op._attrs.get("dtype") is dtypes.string
    if definition.effects & Effect.SOURCE or is_constant(op):
        return False
    return runs_on_host(op)


def _is_text(tensor: Tensor) -> bool:
    return tensor._dtype.base_dtype is dtypes.string


def _is_generator(op: Operation) -> bool:
    return not op._inputs and len(op._outputs) == 1 and not op._outputs[0]._dtype.is_ref_dtype
