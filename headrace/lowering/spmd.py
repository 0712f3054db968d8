"""The common program of the replicas of a step: traced once, run by each of their devices, with XLA's collectives.

Each device has its own values under the same shapes. What differs is known to the program as values (variables, batches), or as
a table of the constants of the replicas, of which each device takes its own. The arrays that go in and out are those of the
devices end to end along the first axis; a scalar of each device goes as a vector of one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from headrace.core import dtypes
from headrace.graph.operation import Operation, group_by_argument
from headrace.graph.tensor import Tensor
from headrace.lowering import checks
from headrace.lowering.evaluate import Values, call_host, can_fold, trace
from headrace.lowering.island import LITERAL_BYTES, guarded, paired, static_key, strong
from headrace.lowering.mixed_precision import narrowing
from headrace.lowering.not_compilable import NotCompilable
from headrace.lowering.state import StateView, Version
from headrace.passes.mixed_precision import Narrow
from headrace.passes.segments import is_pure
from headrace.passes.spmd import SpmdNode, gathered_of
from headrace.passes.state_order import StateOrder, is_handle

AXIS = "replica"

Tuple = tuple[Tensor, ...]
"""What the operations of a node take at one position, or the same tensor for all."""


class Table:
    """A value that is known for each replica, and not the same for all."""

    __slots__ = ("values",)

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = list(values)


@dataclass(slots=True)
class Program:
    """A program of all replicas, its checks, and for its results (once it is traced) which are scalars of each device."""

    call: Any
    collector: checks.Collector
    scalars: Any


class SpmdIsland:
    """Nodes of the replicas' program as a compiled program over a mesh of their devices.

    inputs: for each value from outside the tensors of the replicas; static ones are those whose value decides a shape.
    outputs: tensors of the first replica (or of single operations) whose values others want. writes: (key, version) of the
    state that comes out, under the first replica's keys; donated, kept: of what goes in, donated what is written as well. A
    key that is not in `keys` is one variable that all read. constants: for each large constant the arrays of the replicas.
    """

    def __init__(
        self,
        nodes: Sequence[SpmdNode],
        devices: Sequence[Any],
        static: set[Tensor],
        outputs: Sequence[Tensor],
        reads: Sequence[Version],
        writes: Sequence[Version],
        order: StateOrder,
        keys: Mapping[str, tuple[str, ...]],
        must_fold: set[Operation],
        free: set[Operation],
        fed: frozenset[Tensor],
        label: str,
    ) -> None:
        self.nodes, self.label = nodes, label
        self.mesh = Mesh(np.array(devices, dtype=object), (AXIS,))
        self.sharding = NamedSharding(self.mesh, PartitionSpec(AXIS))
        self.ops = [op for node in nodes for op in node.ops]
        self.outputs = tuple(outputs)
        self.donated, self.kept, self.writes = paired(reads, writes)
        self._count = len(devices)
        self._order, self._keys, self._must_fold = order, keys, must_fold
        self._free, self._fed = free, fed
        self.node_of: dict[Operation, SpmdNode] = {op: node for node in nodes for op in node.ops}
        self.replica_of_key = {
            key: (first, i) for first, own in keys.items() for i, key in enumerate(own)
        }
        self.uses: dict[Operation, list[Version]] = {}  # what single operations read
        for (op, key), version in order.read_version.items():
            if op in self.node_of and self.node_of[op].is_single:
                self.uses.setdefault(op, []).append((key, version))
        wanted = self._find_inputs()
        self.inputs = tuple(ts for ts in wanted if not static.intersection(ts))
        self.static_inputs = tuple(ts for ts in wanted if static.intersection(ts))
        self.narrow: Narrow = {}  # what computes in 16 bits
        self._scalars: Any = ()  # of the last program that was asked for
        self._literals: dict[Tensor, Any] = {}
        self._large: list[Tuple] = []
        self.constants: list[tuple[Any, ...]] = []
        self._programs: dict[tuple[Any, ...], Program] = {}

    # ---- what goes in

    def _is_inside(self, tensor: Tensor) -> bool:
        return tensor not in self._fed and tensor._op in self.node_of

    def _is_constant(self, tensor: Tensor) -> bool:
        return tensor not in self._fed and tensor._op in self._free

    def _find_inputs(self) -> list[Tuple]:
        """The tuples of tensors that the nodes take from outside of the program."""
        found: dict[Tuple, None] = {}
        for node in self.nodes:
            for tensors in self._positions(node):
                if is_handle(tensors[0]):
                    continue
                outside = [t for t in tensors if not (self._is_inside(t) or self._is_constant(t))]
                if len(outside) == len(tensors):
                    found[tensors] = None
                else:
                    found.update(((t,) * self._count, None) for t in outside)
        return list(found)

    def _positions(self, node: SpmdNode) -> list[Tuple]:
        """What the operations of a node take, position by position; of a single one, the same for all replicas."""
        if node.is_single:
            return [(t,) * self._count for t in node.leader._inputs]
        return list(zip(*(op._inputs for op in node.ops), strict=True))

    # ---- the program

    def forget_programs(self) -> None:
        """Has the programs traced again at the next call."""
        self._programs.clear()

    def program(
        self, static_values: Sequence[np.ndarray], scalars: Any, donate: bool = False
    ) -> Program:
        """The program for these static values.

        Its function takes (donated state, kept state, inputs, constants) and returns (written state, outputs, checks), each
        for all devices. scalars: the same nest as what it takes, True where the values are scalars. donate: the buffers of
        `donated` are reused; the checks end with their old values, as those of an Island, which are what is written on all
        devices if a check fails on one.
        """
        self._scalars = scalars
        key = (donate, scalars, *static_key(static_values))
        found = self._programs.get(key)
        if found is None:
            given = dict(zip(self.static_inputs, static_values, strict=True))
            found = Program(None, checks.Collector(), ())
            function = self._on_mesh(self._function(given, found, donate), scalars, found)
            found.call = jax.jit(function, donate_argnums=(0,) if donate and self.donated else ())
            self._programs[key] = found
        return found

    def _on_mesh(
        self, function: Callable[..., Any], scalars: Any, program: Program
    ) -> Callable[..., Any]:
        def of_one(*arguments: Any) -> Any:
            own = jax.tree.map(lambda a, s: a.reshape(()) if s else a, arguments, scalars)
            results = function(*own)
            program.scalars = jax.tree.map(lambda a: not a.ndim, results)
            return jax.tree.map(lambda a: a if a.ndim else a.reshape(1), results)

        spec = PartitionSpec(AXIS)
        mapped = jax.shard_map(
            of_one, mesh=self.mesh, in_specs=spec, out_specs=spec, check_vma=False
        )
        functools.update_wrapper(mapped, function)
        return mapped

    def sizes(
        self, static_values: Sequence[np.ndarray], arguments: tuple[Any, ...]
    ) -> dict[Tensor, tuple[tuple[int, ...], int]]:
        """The shape and the bytes of each tensor in the program for these static values and arguments."""
        seen: Values = {}
        given = dict(zip(self.static_inputs, static_values, strict=True))
        program = Program(None, checks.Collector(), ())
        function = self._on_mesh(
            self._function(given, program, False, seen), self._scalars, program
        )
        jax.eval_shape(function, *arguments)
        found = {}
        for tensor, value in seen.items():
            if isinstance(value, (jax.Array, np.ndarray, np.generic)):
                node = self.node_of.get(tensor._op)
                for op in node.ops if node is not None else (tensor._op,):
                    size = int(value.size) * value.dtype.itemsize
                    found[op._outputs[tensor.value_index]] = (tuple(value.shape), size)
        return found

    def _function(
        self,
        static: Mapping[Tuple, Any],
        program: Program,
        donate: bool,
        seen: Values | None = None,
    ) -> Callable[..., tuple]:
        self.find_constants()
        collector = program.collector

        def spmd(donated: tuple, kept: tuple, inputs: tuple, constants: tuple) -> tuple:
            given: dict[Tuple, Any] = dict(zip(self._large, constants, strict=True))
            given.update(zip(self.inputs, inputs, strict=True))
            given.update(static)
            tracing = _Tracing(self, given)
            state = tracing.state
            for (key, version), value in (*zip(self.donated, donated), *zip(self.kept, kept)):
                state.put(key, version, value)
            collector.checks.clear()
            with checks.collecting(collector), narrowing(self.narrow):
                for node in self.nodes:
                    tracing.run(node)
            if seen is not None:
                seen.update(tracing.values)
            outputs = tuple(jnp.asarray(tracing.traced(tracing.values[t])) for t in self.outputs)
            outcome = checks.outcome_of(collector)
            if outcome and donate and self.donated:
                failed = lax.pmax(outcome[0].astype(jnp.int32), AXIS) > 0
                written, restored = guarded(state, failed, self.donated, self.writes)
                return written, outputs, (*outcome, restored)
            written = tuple(strong(state.read(key, version)) for key, version in self.writes)
            return written, outputs, outcome

        spmd.__name__ = spmd.__qualname__ = self.label
        return spmd

    def find_constants(self) -> None:
        """The values of the constants that the nodes take: in the program, but for large ones."""
        if self._literals or self._large:
            return
        for node in self.nodes:
            for tensors in self._positions(node):
                if not all(self._is_constant(t) for t in tensors) or tensors in self._large:
                    continue
                arrays = [_value_of_constant(t, self._literals) for t in tensors]
                if tensors[0]._dtype is not dtypes.string and any(
                    getattr(a, "nbytes", 0) > LITERAL_BYTES for a in arrays
                ):
                    self._large.append(tensors)
                    self.constants.append(tuple(arrays))


def _value_of_constant(tensor: Tensor, known: dict[Tensor, Any]) -> Any:
    if tensor not in known:
        known[tensor] = tensor._op._definition.host_rule(tensor._op)  # type: ignore[misc]
    return known[tensor]


class _Tracing:
    """The values of one trace: tracers, NumPy arrays where they are known and equal, tables where they are known and differ."""

    def __init__(self, island: SpmdIsland, given: dict[Tuple, Any]) -> None:
        self.island, self.given = island, given
        self.values: Values = {}
        self.state = StateView(_not_read)
        self._gathered: dict[Any, Any] = {}
        self._index: Any = None

    # ---- values

    @property
    def index(self) -> Any:
        """The number of the replica that computes."""
        if self._index is None:
            self._index = lax.axis_index(AXIS)
        return self._index

    def traced(self, value: Any) -> Any:
        """`value` as the program of each device has it."""
        if not isinstance(value, Table):
            return value
        if len({v.shape for v in value.values}) > 1:
            raise NotCompilable(self.island.ops[0], "constants of replicas differ in shape")
        return jnp.asarray(np.stack(value.values))[self.index]

    def taken(self, node: SpmdNode, tensors: Tuple) -> Any:
        """What the operations of `node` take at a position."""
        first = tensors[0]
        found = self.given.get(tensors)
        if found is not None:
            return found
        if all(t is first for t in tensors):
            return self.whole(first)
        source = self.island.node_of.get(first._op)
        if source is not None and not source.is_single:
            own = [op._outputs[first.value_index] for op in source.ops]
            if all(a is b for a, b in zip(tensors, own)) and self.island._is_inside(first):
                return self.values[first]
        return self._chosen(node, [self.whole(t) for t in tensors])

    def whole(self, tensor: Tensor) -> Any:
        """The value of one tensor, of whichever replica, on all devices."""
        island = self.island
        if island._is_constant(tensor):
            found = self.given.get((tensor,) * island._count)
            return _value_of_constant(tensor, island._literals) if found is None else found
        if not island._is_inside(tensor):
            return self.given[(tensor,) * island._count]
        node = island.node_of[tensor._op]
        if node.is_single:
            return self.values[tensor]
        replica = node.ops.index(tensor._op)
        value = self.values[node.leader._outputs[tensor.value_index]]
        if isinstance(value, Table):
            return value.values[replica]
        return self._of_replica(tensor, value, replica)

    def _of_replica(self, what: Any, value: Any, replica: int) -> Any:
        """The value that one replica has, on all devices."""
        if isinstance(value, (np.ndarray, np.generic)):
            return value
        if what not in self._gathered:
            self._gathered[what] = lax.all_gather(value, AXIS)[replica]
        return self._gathered[what]

    def _chosen(self, node: SpmdNode, values: list[Any]) -> Any:
        """Of one value for each replica, that of the replica that computes."""
        if all(isinstance(v, (np.ndarray, np.generic)) for v in values):
            return _table(values)
        if len({v.shape for v in values}) > 1:
            raise NotCompilable(node.leader, "the replicas' inputs differ in shape")
        chosen = jnp.asarray(values[0])
        for number, value in enumerate(values[1:], 1):
            chosen = jnp.where(self.index == number, value, chosen)
        return chosen

    # ---- nodes

    def run(self, node: SpmdNode) -> None:
        """Computes the outputs of a node."""
        op, island = node.leader, self.island
        positions = island._positions(node)
        if node.gathers and self._run_across(node, positions):
            return
        local: Values = {}
        for tensor, tensors in zip(op._inputs, positions, strict=True):
            if not is_handle(tensor) and tensor not in local:
                local[tensor] = self.taken(node, tensors)
        state = self._of_one(op) if node.is_single else self.state
        if any(isinstance(v, Table) for v in local.values()):
            if self._fold_each(node, local):
                return
            local = {t: self.traced(v) for t, v in local.items()}
        trace([op], local, island._order, state, island._must_fold, frozenset())
        self.values.update((t, local[t]) for t in op._outputs if t in local)

    def _run_across(self, node: SpmdNode, positions: list[Tuple]) -> bool:
        """Computes an operation on the values of all replicas by a collective; False where they are known already."""
        op, island = node.leader, self.island
        found = gathered_of(op, island.node_of, island._fed, island._count)  # type: ignore[arg-type]
        if found is None:
            return False
        source, places = found
        tensor = source.leader._outputs[op._inputs[places[0]].value_index]
        value = self.values[tensor]
        if not isinstance(value, jax.Array):
            return False
        others = [self.taken(node, ts) for i, ts in enumerate(positions) if i not in places]
        if any(isinstance(v, Table) for v in others):
            return False
        rest = iter(others)
        arguments = [
            value if a.number_attr else next(rest) for a in op._definition.signature.inputs
        ]
        with jax.named_scope(f"{op._name}#{op.type}"):
            self.values[op._outputs[0]] = op._definition.across_rule(op, AXIS, *arguments)  # type: ignore[misc]
        return True

    def _of_one(self, op: Operation) -> StateView:
        """The state as a single operation sees it: what one replica has, on all devices."""
        view = StateView(_not_read)
        for key, version in self.island.uses.get(op, ()):
            first, replica = self.island.replica_of_key[key]
            value = self.state.read(first, version)
            view.put(key, version, self._of_replica((key, version), value, replica))
        return view

    def _fold_each(self, node: SpmdNode, local: Values) -> bool:
        """Computes a node for each replica while tracing, if all is known; False where it is not."""
        op, island = node.leader, self.island
        if not is_pure(op) or op._definition.host_rule is None or op._definition.function_attrs:
            return False
        results: list[list[Any]] = []
        for number in range(island._count):
            flat = [local[t] for t in op._inputs]
            flat = [v.values[number] if isinstance(v, Table) else v for v in flat]
            arguments = group_by_argument(op, flat)
            if not can_fold(op, arguments, op in island._must_fold):
                return False
            found = call_host(op, arguments)
            results.append(list(found) if isinstance(found, (tuple, list)) else [found])
        for tensor, values in zip(op._outputs, zip(*results, strict=True), strict=True):
            self.values[tensor] = _table([np.asarray(v) for v in values])
        return True


def _table(values: Sequence[Any]) -> Any:
    """Known values of the replicas: one array if they are equal."""
    first = values[0]
    same = all(v is first or _equal(v, first) for v in values[1:])
    return first if same else Table(values)


def _equal(value: Any, other: Any) -> bool:
    if value.shape != other.shape or value.dtype != other.dtype:
        return False
    if value.dtype == object:  # strings
        return bool(np.array_equal(value, other))
    return value.tobytes() == other.tobytes()


def _not_read(key: str) -> Any:
    raise AssertionError(
        f"a program of the replicas reads {key!r}, which its plan does not give it"
    )
