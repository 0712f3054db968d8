"""Finds what the replicas of a mirrored program have in common: the nodes of one program that all their devices run.

A program of `MirroredStrategy` has a copy of its operations on each device. Operations that do the same to corresponding
inputs, one on each device, become one node; each device computes its own. What has no counterpart and stands between such
nodes (the sum of the replicas' gradients, the split of a batch) becomes a node that every device computes.

Any pairing of operations of one type, with equal attrs and state in step, is right: a node takes at each position the tuple
of what its operations take there. Which ones are paired only decides how much of the step comes together, so it follows the
structure, then names, then the order in which they were made.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from headrace.core import dtypes
from headrace.graph.op_def import Effect
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.passes.segments import Kinds, is_pure
from headrace.passes.state_order import StateOrder, is_handle
from headrace.passes.structure import Signature, description, plain_name

# A step with fewer pairs of operations, and no sum over the replicas, stays with the executor of devices.
_FEWEST_GROUPS = 8
# What works on more elements is not computed by every device.
_MOST_ELEMENTS = 1 << 20
_LIGHT_ELEMENTS = 4096

# The first copy of a variable has the name, the others add which they are.
_COPY = re.compile(r"^(?P<name>.+)/replica_(?P<number>\d+)$")


@dataclass(slots=True, eq=False)
class SpmdNode:
    """A node of the program of all replicas.

    ops: the operation of each replica, in the order of the devices; or a single one, which every device computes and which
    is on device number `home`. gathers: its variadic argument is the values of all replicas of one node, in order.
    """

    ops: tuple[Operation, ...]
    home: int = 0
    gathers: bool = False

    @property
    def leader(self) -> Operation:
        """The operation that is traced."""
        return self.ops[0]

    @property
    def is_single(self) -> bool:
        """Whether it stands for one operation."""
        return len(self.ops) == 1


Unit = SpmdNode | Operation
"""A node of the program, or an operation that stays outside."""


@dataclass(slots=True)
class SpmdPlan:
    """What the replicas run together.

    devices: by replica. sequence: everything that runs, in an order in which it may. keys: for each variable (and generator)
    of the first replica those of all; unit_of: of each operation that runs.
    """

    devices: tuple[str, ...]
    sequence: list[Unit]
    keys: dict[str, tuple[str, ...]]
    unit_of: dict[Operation, Unit] = field(default_factory=dict)

    @property
    def nodes(self) -> list[SpmdNode]:
        """The nodes of the program."""
        return [u for u in self.sequence if isinstance(u, SpmdNode)]


def find_replicas(
    before: dict[Operation, set[Operation]],
    fed: frozenset[Tensor],
    fetches: Sequence[Tensor],
    order: StateOrder,
    kinds: Kinds,
    device_of: Callable[[Operation], str],
) -> SpmdPlan | None:
    """The common program of the replicas of a step, None where there is little of it.

    before: what each operation of the run waits for, in the order of the run (see `device_split.dependencies`).
    """
    copies = _copies_of_variables(order, kinds, device_of)
    if not copies:
        return None
    devices = max(copies, key=lambda d: len(copies[d]))
    finder = _Finder(before, fed, order, kinds, device_of, devices, copies[devices])
    finder.match()
    finder.keep_lists_inside(frozenset(fetches))
    plan = finder.plan()
    nodes = plan.nodes
    worth = any(n.gathers for n in nodes) or finder.groups_at_work >= _FEWEST_GROUPS
    return plan if worth else None


def _copies_of_variables(
    order: StateOrder, kinds: Kinds, device_of: Callable[[Operation], str]
) -> dict[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """For each tuple of devices the variables with a copy on each: the first key, and the keys of all."""
    device: dict[str, str] = {}
    for op in kinds.handles:
        key = order.key(op._outputs[0])
        if key is not None:
            device[key] = device_of(op)
    numbered: dict[str, dict[int, str]] = {}
    for key in device:
        found = _COPY.match(key)
        if found and found["name"] in device:
            numbered.setdefault(found["name"], {0: found["name"]})[int(found["number"])] = key
    result: dict[tuple[str, ...], dict[str, tuple[str, ...]]] = {}
    for name, by_number in numbered.items():
        keys = tuple(by_number.get(i, "") for i in range(len(by_number)))
        if all(keys):
            devices = tuple(device[key] for key in keys)
            if len(set(devices)) == len(devices):
                result.setdefault(devices, {})[name] = keys
    return result


class _Finder:
    """Walks over the operations as what they wait for is paired, and pairs those that look alike."""

    def __init__(
        self,
        before: dict[Operation, set[Operation]],
        fed: frozenset[Tensor],
        order: StateOrder,
        kinds: Kinds,
        device_of: Callable[[Operation], str],
        devices: tuple[str, ...],
        keys: dict[str, tuple[str, ...]],
    ) -> None:
        self.before, self.fed, self.order, self.kinds = before, fed, order, kinds
        self.devices, self.keys = devices, dict(keys)
        self.first_key = {key: name for name, own in keys.items() for key in own}
        number = {name: i for i, name in enumerate(devices)}
        self.replica = {op: number.get(device_of(op)) for op in before}
        self.place = {op: i for i, op in enumerate(before)}
        self.unit_of: dict[Operation, Unit] = {}
        self.sequence: list[Unit] = []
        self.candidates: set[SpmdNode] = set()  # single operations that every device may compute
        self.groups_at_work = 0
        self.uses: dict[Operation, list[tuple[str, int]]] = {}
        for (op, key), version in order.read_version.items():
            self.uses.setdefault(op, []).append((key, version))
        self._followers: dict[Operation, list[Operation]] = {}
        self._pending: dict[Operation, int] = {}
        # So that no replica gets ahead of the others, what has no counterpart is settled by its distance from the start.
        self._depth: dict[Operation, int] = {}
        for op, sources in before.items():
            self._pending[op] = len(sources)
            self._depth[op] = max((self._depth[s] + 1 for s in sources), default=0)
            for source in sources:
                self._followers.setdefault(source, []).append(op)
        self._fixed: dict[Operation, Signature] = {}
        self._bodies: dict[tuple[str, str], Signature] = {}
        self._settled: list[Operation] = []
        self._kinds_of_replica: dict[Signature, set[int | None]] = {}

    # ---- the walk

    def match(self) -> None:
        """Makes a unit of every operation."""
        for op in self.before:
            if self.replica[op] is not None and op not in self.kinds.on_host:
                self._kinds_of_replica.setdefault(self._own(op), set()).add(self.replica[op])
        waiting: dict[Operation, None] = {}
        ready = [op for op, count in self._pending.items() if not count]
        while ready or waiting:
            for op in ready:
                if not self._eligible(op):
                    self._settle(op, (op,))
                elif len(self._kinds_of_replica[self._own(op)]) < len(self.devices):
                    self._settle(self._alone(op), (op,))  # no replica but its own has such a one
                else:
                    waiting[op] = None
            ready = self._released()
            if ready:
                continue
            for look in (self._by_replica, self._by_tensor, self._by_name):
                for ops in self._alike(waiting, look):
                    for op in ops:
                        del waiting[op]
                    node = SpmdNode(ops, gathers=self._gathers(ops[0]))
                    self.groups_at_work += is_pure(ops[0]) and bool(ops[0]._inputs)
                    self._settle(node, ops)
                ready = self._released()
                if ready:
                    break
            else:
                nearest = min((self._depth[op] for op in waiting), default=0)
                for op in [op for op in waiting if self._depth[op] == nearest]:
                    del waiting[op]
                    self._settle(self._alone(op), (op,))
                ready = self._released()

    def _settle(self, unit: Unit, ops: Sequence[Operation]) -> None:
        self.sequence.append(unit)
        for op in ops:
            self.unit_of[op] = unit
        self._settled.extend(ops)

    def _released(self) -> list[Operation]:
        """The operations that wait for nothing more since the last call."""
        found: list[Operation] = []
        for op in self._settled:
            for follower in self._followers.get(op, ()):
                self._pending[follower] -= 1
                if not self._pending[follower]:
                    found.append(follower)
        self._settled = []
        return found

    def _alike(
        self, waiting: Iterable[Operation], look: Callable[[Operation], Signature]
    ) -> list[tuple[Operation, ...]]:
        """Groups of one operation for each replica that look alike and can be one node."""
        pools: dict[Signature, list[list[Operation]]] = {}
        for op in sorted(waiting, key=self.place.__getitem__):
            pool = pools.setdefault(look(op), [[] for _ in self.devices])
            pool[self.replica[op]].append(op)  # type: ignore[index]
        found: list[tuple[Operation, ...]] = []
        for pool in pools.values():
            if not all(pool):
                continue
            by_name = [{plain_name(op): op for op in own} for own in pool]
            taken: set[Operation] = set()
            for name in by_name[0]:
                if all(name in own for own in by_name):
                    ops = tuple(own[name] for own in by_name)
                    if self._fits(ops):
                        found.append(ops)
                        taken.update(ops)
            rest = [[op for op in own if op not in taken] for own in pool]
            if len({len(own) for own in rest}) == 1:
                found += [ops for ops in zip(*rest, strict=True) if self._fits(ops)]
        return found

    # ---- how operations look

    def _by_replica(self, op: Operation) -> Signature:
        """By what the inputs are as seen from the operation's own replica."""
        return (self._own(op), *self._inputs(op, lambda t, u: self._seen(op, t, u)))

    def _by_tensor(self, op: Operation) -> Signature:
        """By the very tensors that go in: copies of one value on all devices."""
        return (self._own(op), *self._inputs(op, lambda t, u: ("same", t)))

    def _by_name(self, op: Operation) -> Signature:
        """By name and types, whatever goes in."""
        parts = self._inputs(op, lambda t, u: ("any", t._dtype, t._dims))
        return (self._own(op), plain_name(op), *parts)

    def _inputs(
        self, op: Operation, look: Callable[[Tensor, SpmdNode], Signature]
    ) -> Iterator[Signature]:
        gathered = gathered_of(op, self.unit_of, self.fed, len(self.devices))
        for i, tensor in enumerate(op._inputs):
            if gathered is not None and i in gathered[1]:
                yield ("all", gathered[0], tensor.value_index)
            elif is_handle(tensor):
                key = self.order.key(tensor)
                yield ("variable", self.first_key.get(key or "", key))
            else:
                unit = self.unit_of.get(tensor._op)
                if tensor in self.fed or not isinstance(unit, SpmdNode):
                    yield ("outside", tensor._dtype, tensor._dims, tensor._op in self.kinds.free)
                else:
                    yield look(tensor, unit)

    def _seen(self, op: Operation, tensor: Tensor, unit: SpmdNode) -> Signature:
        if unit.is_single:
            return ("single", unit, len(unit.leader._outputs) > 1 or tensor.value_index)
        replica = unit.ops.index(tensor._op)
        return ("group", unit, tensor.value_index, replica != self.replica[op] and replica)

    def _own(self, op: Operation) -> Signature:
        """What an operation is, without its inputs."""
        found = self._fixed.get(op)
        if found is None:
            decisive = self.kinds.decisive.get(op, ())
            found = self._fixed[op] = (
                description(op, self.order, self._bodies),
                tuple(i for i, t in enumerate(op._inputs) if t in decisive),
                tuple((t._dtype, t._dims) for t in op._outputs),
            )
        return found

    # ---- what can be a node

    def _eligible(self, op: Operation) -> bool:
        """Whether a program of several devices can hold the operation."""
        if self.replica[op] is None or op in self.kinds.on_host or op in self.order.later_reads:
            return False
        for tensor in op._outputs:
            if is_handle(tensor) or tensor in self.fed:
                return False
        for tensor in op._inputs:
            if tensor._dtype.is_ref_dtype:
                return False
            if is_handle(tensor) and self.order.key(tensor) is None:
                return False
            if tensor._dtype is dtypes.variant:  # lists do not go from program to program here
                source = self.unit_of.get(tensor._op)
                if tensor in self.fed or not isinstance(source, SpmdNode):
                    return False
                if self.replica[tensor._op] != self.replica[op]:
                    return False
        return True

    def _fits(self, ops: tuple[Operation, ...]) -> bool:
        """Whether the operations can be one node: what they take at each position can be told by the first one's."""
        taken: dict[Tensor, tuple[Tensor, ...]] = {}
        for tensors in zip(*(op._inputs for op in ops), strict=True):
            if taken.setdefault(tensors[0], tensors) != tensors and not is_handle(tensors[0]):
                return False
        return self._in_step(ops)

    def _in_step(self, ops: tuple[Operation, ...]) -> bool:
        """Whether the operations see and leave the same versions of corresponding variables; notes their generators."""
        uses = [self.uses.get(op, []) for op in ops]
        if len({len(own) for own in uses}) > 1:
            return False
        new: dict[str, tuple[str, ...]] = {}
        for own in zip(*uses, strict=True):
            keys = tuple(key for key, _ in own)
            if len({version for _, version in own}) > 1:
                return False
            known = self.keys.get(keys[0]) or new.get(keys[0])
            if known is None:
                if len(set(keys)) == 1:
                    if any(ops[0] in w for k, w in self.order.writers.items() if k == keys[0]):
                        return False  # one variable that all write: they take turns
                    continue
                if not all(key in self.order.generators for key in keys):
                    return False
                if any(key in self.first_key for key in keys):
                    return False
                new[keys[0]] = keys
            elif known != keys:
                return False
            if not self._written_together(keys, own[0][1]):
                return False
        for key, own_keys in new.items():
            self.keys[key] = own_keys
            self.first_key.update((k, key) for k in own_keys)
        return True

    def _written_together(self, keys: tuple[str, ...], version: int) -> bool:
        """Whether version number `version` of these variables comes from one node, or from outside."""
        if version < 0:
            return True
        writers = tuple(self.order.writers[key][version] for key in keys)
        units = [self.unit_of.get(op) for op in writers]
        if isinstance(units[0], SpmdNode):
            return units[0].ops == writers
        return not any(isinstance(unit, SpmdNode) for unit in units)

    def _gathers(self, op: Operation) -> bool:
        return gathered_of(op, self.unit_of, self.fed, len(self.devices)) is not None

    def _alone(self, op: Operation) -> Unit:
        """The unit of an operation without counterparts: every device may compute it if it only computes."""
        definition = op._definition
        if not is_pure(op):
            reads_only = not (definition.writes or definition.function_attrs)
            if not reads_only or definition.effects & Effect.RANDOM or op not in self.uses:
                return op
        elif definition.function_attrs and op in self.uses:
            return op
        for key, version in self.uses.get(op, ()):
            keys = self.keys.get(self.first_key.get(key, ""))
            if keys is None or not self._written_together(keys, version):
                return op
        if any(t._dtype is dtypes.variant for t in (*op._inputs, *op._outputs)):
            return op
        if _elements(op) > _MOST_ELEMENTS:
            return op
        node = SpmdNode((op,), self.replica[op] or 0, self._gathers(op))
        self.candidates.add(node)
        return node

    # ---- the result

    def keep_lists_inside(self, fetches: frozenset[Tensor]) -> None:
        """Leaves out what gives lists of tensors to others, or takes them: only a program knows their values."""
        while True:
            outside = [op for op, unit in self.unit_of.items() if isinstance(unit, Operation)]
            wanted = fetches.union(t for op in outside for t in op._inputs)
            crossing = {
                u
                for u in self.sequence
                if isinstance(u, SpmdNode) and self._list_crosses(u, wanted)
            }
            if not crossing:
                return
            self.unit_of.update((op, op) for unit in crossing for op in unit.ops)
            self.sequence = [
                part
                for u in self.sequence
                for part in (u.ops if isinstance(u, SpmdNode) and u in crossing else (u,))
            ]

    def _list_crosses(self, unit: SpmdNode, wanted: frozenset[Tensor]) -> bool:
        return any(
            (t in wanted and t._dtype is dtypes.variant) for op in unit.ops for t in op._outputs
        ) or any(
            t._dtype is dtypes.variant and not isinstance(self.unit_of.get(t._op), SpmdNode)
            for op in unit.ops
            for t in op._inputs
        )

    def plan(self) -> SpmdPlan:
        """The plan, with the single operations that every device computes rather than one."""
        wanted: set[Unit] = set()
        for unit in reversed(self.sequence):
            if isinstance(unit, SpmdNode) and (unit not in self.candidates or unit in wanted):
                wanted.add(unit)
                wanted.update(self.unit_of[s] for op in unit.ops for s in self.before[op])
        inside: set[Unit] = set()
        sequence: list[Unit] = []
        for unit in self.sequence:
            if isinstance(unit, SpmdNode) and unit in self.candidates:
                op = unit.leader
                follows = any(self.unit_of[s] in inside for s in self.before[op])
                small = unit.gathers or 0 < _elements(op) <= _LIGHT_ELEMENTS
                if unit not in wanted and not (follows and small):
                    self.unit_of[op] = op
                    sequence.append(op)
                    continue
            if isinstance(unit, SpmdNode):
                inside.add(unit)
            sequence.append(unit)
        return SpmdPlan(self.devices, sequence, self.keys, self.unit_of)


def gathered_of(
    op: Operation, unit_of: dict[Operation, Unit], fed: frozenset[Tensor], count: int
) -> tuple[SpmdNode, range] | None:
    """The node whose values of all replicas are the variadic argument of `op`, and the positions of that argument.

    None where it has no rule for such an argument, or takes something else.
    """
    definition = op._definition
    if definition.across_rule is None:
        return None
    start = 0
    for argument in definition.signature.inputs:
        size = 1 if argument.number_attr is None else op._attrs[argument.number_attr]
        if argument.number_attr is not None:
            tensors = op._inputs[start : start + size]
            node = unit_of.get(tensors[0]._op)
            if isinstance(node, SpmdNode) and len(node.ops) == size == count:
                index = tensors[0].value_index
                wanted = [o._outputs[index] for o in node.ops]
                if all(a is b for a, b in zip(tensors, wanted)) and not fed.intersection(wanted):
                    return node, range(start, start + size)
            return None
        start += size
    return None


def _elements(op: Operation) -> int:
    """How many elements `op` takes and gives, 0 where that is not known."""
    total = 0
    for tensor in (*op._inputs, *op._outputs):
        if is_handle(tensor):
            continue
        dims = tensor._dims
        if dims is None or None in dims:
            return 0
        total += math.prod(dims)  # type: ignore[arg-type]
    return max(total, 1)
