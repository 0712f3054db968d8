"""Plans the body of a loop for `src/loop.cc`: in phases, each of work that the threads do without waiting for one another.

Elementwise operations of one shape that can be in the same phase are one program and keep what they hand on in registers.
What another phase needs goes to memory: to the next value of what the loop carries, to an element of a list, or to scratch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from headrace.native.loops.body import Body, Node, NotCovered
from headrace.native.loops.elementwise import SCALAR, SCALAR_TRUTH, WORD
from headrace.native.loops.scalars import Scalars
from headrace.native.loops.values import (
    BOOL,
    CARRIED,
    CARRIED_NEXT,
    ELEMENT,
    FLOAT,
    INPUT,
    INT,
    SCRATCH,
    Cluster,
    Dot,
    Joined,
    List,
    Memory,
    Pending,
    Reduction,
    Reshaped,
    Splat,
    dense,
    element,
    element_size,
    is_list_of_scalars,
    is_scalar,
    opcode,
    reshaped,
)
from headrace.native.loops.views import VIEWS
from headrace.native.packed import packed_size, pieces_of

_ALIGNMENT = 64


class Plan:
    """What the loop does in an iteration, and its operands. Raises NotCovered.

    inputs: what each operand is: ("node", an invariant or a carried value) or ("packed", (node, rows, pieces, transposed)).
    """

    def __init__(self, body: Body) -> None:
        self.body = body
        self.inputs: list[tuple[str, Any]] = []
        self.outputs = [i for i, fixed in enumerate(body.fixed) if not fixed]
        self.lists: list[List] = []
        self.bases: list[tuple[int, int, int]] = []
        self.carried: list[tuple[int, int, int, int]] = []
        self.scratch_bytes = 0
        self.clusters: list[Cluster] = []
        self.dots: list[Dot] = []
        self.reductions: list[Reduction] = []
        self._where: dict[Node, Any] = {}
        self._stored: dict[Node, Memory] = {}
        self._input_of: dict[Any, int] = {}
        self._list_of: dict[int, int] = {}
        self._fixed_lists: dict[Node, int] = {}
        self._carried_of: dict[int, int] = {}
        self._versions: dict[int, Node] = {}
        self.scalars = Scalars(self)
        self._find_lists()
        if any(node.size == 0 for node in body.nodes):
            raise NotCovered("values without elements")
        for node in body.nodes:
            if is_scalar(node) or is_list_of_scalars(node):
                self.scalars.add(node)
        for node in body.nodes:
            if not is_scalar(node) and not is_list_of_scalars(node):
                self._where[node] = self._place(node)
        self._finish()

    # ---- operands

    def operand(self, node: Node) -> int:
        """The number of the input that holds an operand of the body, or an invariant that is computed before the loop."""
        return self._input(("node", node))

    def _input(self, key: tuple[str, Any]) -> int:
        if key not in self._input_of:
            self._input_of[key] = len(self.inputs)
            self.inputs.append(key)
        return self._input_of[key]

    def output(self, carry: int) -> int:
        """The number of the result that a carried value ends in."""
        return self.outputs.index(carry)

    def base(self, kind: int, index: int, place: int = 0) -> int:
        """The number of a place where operands begin."""
        key = kind, index, place
        if key not in self.bases:
            self.bases.append(key)
        return self.bases.index(key)

    def _scratch(self, shape: tuple[int, ...]) -> Memory:
        at, size = self.scratch_bytes, 4 * int(np.prod(shape, dtype=np.int64))
        self.scratch_bytes += -(-size // _ALIGNMENT) * _ALIGNMENT
        return Memory(self.base(SCRATCH, at), 0, shape, dense(shape), WORD)

    # ---- lists

    def _find_lists(self) -> None:
        for i, carry in enumerate(self.body.carries):
            if self.body.fixed[i] or not carry.shape or carry.users == []:
                continue
            if any(
                user.op not in ("dynamic_slice", "dynamic_update_slice") for user in carry.users
            ):
                continue
            chain = self.body.results[i]
            while chain.op == "dynamic_update_slice":
                chain = chain.inputs[0]
            if chain is carry:
                size = element_size(carry) * int(np.prod(carry.shape[1:], dtype=np.int64))
                self._list_of[i] = self._new_list(self.operand(carry), self.output(i), size)
                self._versions[i] = carry

    def _new_list(self, source: int, output: int, size: int) -> int:
        self.lists.append(List(source, output, size))
        return len(self.lists) - 1

    def list_read(self, node: Node) -> int:
        """The list of which a dynamic_slice takes an element."""
        source = node.inputs[0]
        self._check_element(node, node.params["slice_sizes"], node.inputs[1:])
        if source.invariant:
            size = element_size(source) * int(np.prod(source.shape[1:], dtype=np.int64))
            return self._fixed_list(source, size)
        return self._list(source)

    def list_of_one(self, node: Node) -> int:
        """The list of which an invariant number is the only element."""
        return self._fixed_list(node, element_size(node))

    def _fixed_list(self, source: Node, size: int) -> int:
        if source not in self._fixed_lists:
            self._fixed_lists[source] = self._new_list(self.operand(source), -1, size)
        return self._fixed_lists[source]

    def list_written(self, node: Node) -> int:
        """The list to which a dynamic_update_slice writes an element; it then is the latest version."""
        source, update = node.inputs[:2]
        self._check_element(node, update.shape, node.inputs[2:])
        number = self._list(source)
        carry = next(i for i, n in self._list_of.items() if n == number)
        self._versions[carry] = node
        return number

    def _list(self, source: Node) -> int:
        for carry, version in self._versions.items():
            if version is source:
                return self._list_of[carry]
        raise NotCovered("a list that is not the latest one")

    def _check_element(self, node: Node, sizes: Sequence[int], indices: Sequence[Node]) -> None:
        whole = node.inputs[0].shape
        if not whole or sizes[0] != 1 or tuple(sizes[1:]) != whole[1:]:
            raise NotCovered("a slice that is no element")
        if any(i.op != "literal" or i.value != 0 for i in indices[1:]):
            raise NotCovered("a slice that begins inside of an element")

    # ---- where the values are

    def _place(self, node: Node) -> Any:
        if node.dtype not in (FLOAT, INT, BOOL):
            if node.invariant:
                return None  # only what uses it decides
            raise NotCovered(f"values of type {node.dtype}")
        if node.op == "literal" and node.size == 1:
            return Splat(node.value.reshape(())[()], node.dtype)
        if node.op in VIEWS and not is_scalar(node.inputs[0]):
            if self._where[node.inputs[0]] is not None or not node.invariant:
                return VIEWS[node.op](self, node)
        if node.op == "broadcast_in_dim" and is_scalar(node.inputs[0]):
            return self._splat_of_scalar(node)
        if node.invariant:
            if node not in self.body.results and all(user.invariant for user in node.users):
                return None  # it is no operand itself
            base = self.base(INPUT, self.operand(node))
            return Memory(base, 0, node.shape, dense(node.shape), element(node))
        if node.op == "carry":
            if node.index in self._list_of:
                return None
            number = self._carried(node.index)
            return Memory(
                self.base(CARRIED, number), 0, node.shape, dense(node.shape), element(node)
            )
        rule = _RULES.get(node.op)
        if rule is not None:
            return rule(self, node)
        return self._elementwise(node)

    def _carried(self, carry: int) -> int:
        if carry not in self._carried_of:
            node = self.body.carries[carry]
            size = element_size(node) * node.size
            self._carried_of[carry] = len(self.carried)
            self.carried.append((self.operand(node), self.output(carry), size, self.scratch_bytes))
            self.scratch_bytes += -(-size // _ALIGNMENT) * _ALIGNMENT
        return self._carried_of[carry]

    def _splat_of_scalar(self, node: Node) -> Any:
        found = self._scalar_value(node.inputs[0])
        if isinstance(found, Splat):
            return found
        return replace(found, shape=node.shape, strides=(0,) * len(node.shape))

    def memory(self, node: Node) -> Memory:
        """Where the elements lie: what was kept in registers or in parts is stored first."""
        where = self.value(node)
        if isinstance(where, Memory):
            return where
        if node not in self._stored:
            if isinstance(where, Reshaped):
                found = reshaped(self.memory(where.node), node.shape)
                if found is None:
                    raise NotCovered("a reshape of elements that do not lie one behind the other")
            else:
                home = self._home(node) or self._scratch(node.shape)
                found = replace(home, phase=self._store(node, home))
            self._stored[node] = found
        return self._stored[node]

    def _dense(self, node: Node) -> Memory:
        """Where the elements lie one behind the other: they are copied where they do not."""
        source = self.memory(node)
        if source.is_dense:
            return source
        copy, phase = self._scratch(node.shape), source.phase + 1
        self._cluster(phase, node.shape).copies.append((source, copy))
        return replace(copy, phase=phase)

    def value(self, node: Node) -> Any:
        """What a node is to the plan: Memory, Splat, Pending, Joined or Reshaped."""
        if is_scalar(node):
            return self._scalar_value(node)
        where = self._where[node]
        if where is None:
            raise NotCovered(f"a use of {node.op}")
        return where

    def _scalar_value(self, node: Node) -> Any:
        if node.op == "literal":
            return Splat(node.value.reshape(())[()], node.dtype)
        kind = SCALAR_TRUTH if node.dtype == BOOL else SCALAR
        return Memory(self.scalars.register(node), 0, node.shape, (0,) * len(node.shape), kind)

    def _home(self, node: Node) -> Memory | None:
        """A place of the right form to which the value goes anyway: the next value of what is carried, or a list's element."""
        for i in self.outputs:
            if self.body.results[i] is node and i not in self._list_of and element(node) == WORD:
                base = self.base(CARRIED_NEXT, self._carried(i))
                return Memory(base, 0, node.shape, dense(node.shape), WORD)
        for user in node.users:
            update = user
            if user.op in ("broadcast_in_dim", "reshape") and user.size == node.size:
                update = next((u for u in user.users if u.op == "dynamic_update_slice"), user)
            if update.op != "dynamic_update_slice" or update.inputs[1] not in (user, node):
                continue
            carry = update.inputs[0]
            if carry.op != "carry" or carry.users != [update] or element(node) != WORD:
                continue
            if carry.index in self._list_of and self.body.results[carry.index] is update:
                return self._element(self._list_of[carry.index], update.inputs[2], node.shape)
        return None

    def _element(
        self, number: int, index: Node, shape: tuple[int, ...], kind: int = WORD
    ) -> Memory:
        base = self.base(ELEMENT, number, self.scalars.register(index))
        return Memory(base, 0, shape, dense(shape), kind)

    # ---- stores

    def _store(self, node: Node, to: Memory) -> int:
        """Writes a value to a place; returns the phase after which it is there."""
        where = self.value(node)
        lies = where if isinstance(where, Memory) else self._stored.get(node)
        if lies is not None and lies.place == to.place:
            return lies.phase
        if isinstance(where, Pending):
            if all((n, m.place) != (node, to.place) for n, m in where.cluster.stores):
                where.cluster.stores.append((node, to))
            return where.cluster.phase
        if isinstance(where, Joined):
            phase, start = 0, 0
            for part in where.parts:
                offset = to.offset + start * to.strides[where.axis]
                place = Memory(to.base, offset, part.shape, to.strides, to.element)
                phase = max(phase, self._store(part, place))
                start += part.shape[where.axis]
            return phase
        if isinstance(where, Reshaped):
            place = reshaped(to, where.node.shape)
            if place is not None:
                return self._store(where.node, place)
            where = self.memory(node)
        phase = max(where.phase + 1, 0) if isinstance(where, Memory) else 0
        self._cluster(phase, node.shape).copies.append((where, to))
        return phase

    def _cluster(self, phase: int, shape: tuple[int, ...]) -> Cluster:
        for cluster in self.clusters:
            if cluster.phase == phase and cluster.shape == shape:
                return cluster
        self.clusters.append(Cluster(phase, shape))
        return self.clusters[-1]

    # ---- rules

    def _elementwise(self, node: Node) -> Pending:
        opcode(node)  # raises what is not covered
        phase = 0
        for operand in node.inputs:
            where = self.value(operand)
            if isinstance(where, Pending) and where.cluster.shape == node.shape:
                phase = max(phase, where.cluster.phase)
            elif isinstance(where, Splat):
                continue
            else:
                phase = max(phase, self.memory(operand).phase + 1)
        for operand in node.inputs:
            where = self.value(operand)
            if isinstance(where, Pending) and where.cluster.phase < phase:
                self.memory(operand)
        cluster = self._cluster(phase, node.shape)
        cluster.nodes.append(node)
        return Pending(cluster)

    def _dot(self, node: Node) -> Memory:
        left, packed, sizes = self._operands_of_product(node)
        source = self._dense(left)
        phase = source.phase + 1
        out = replace(self._home(node) or self._scratch(node.shape), phase=phase)
        self.dots.append(Dot(phase, source, packed, out, sizes))
        return out

    def _operands_of_product(self, node: Node) -> tuple[Node, int, tuple[int, int, int, int]]:
        """(the left factor, the input with the packed right one, rows, inner, columns and pieces) of a product."""
        target = node.params.get("target_name")
        if target == "headrace_packed_dot":
            left, packed = node.inputs
            pieces = int(dict(node.params["attributes"])["pieces"])
            sizes = (*left.shape, node.shape[1], pieces)
            if not packed.invariant or packed.params.get("target_name") != "headrace_pack":
                raise NotCovered("a product with a matrix that changes")
            turned = bool(dict(packed.params["attributes"])["transpose"])
            key = packed.inputs[0], left.shape[0], pieces, turned
            return left, self._input(("packed", key)), sizes  # type: ignore[return-value]
        if target is not None and target != "headrace_dot":
            raise NotCovered(f"a call of {target}")
        left, right = node.inputs
        if len(left.shape) != 2 or len(right.shape) != 2 or node.dtype != FLOAT:
            raise NotCovered("a product of other than matrices")
        if not right.invariant or left.dtype != FLOAT or right.dtype != FLOAT:
            raise NotCovered("a product with a matrix that changes")
        if target is not None:
            attributes = dict(node.params["attributes"])
            turned = bool(attributes["transpose_a"]), bool(attributes["transpose_b"])
        else:
            ((a,), (b,)), _ = node.params["dimension_numbers"]
            turned = a == 0, b == 1
        if turned[0]:
            raise NotCovered("a product with a matrix that is turned")
        (rows, inner), columns = left.shape, node.shape[1]
        pieces = pieces_of(rows, inner, columns)
        if packed_size(rows, inner, columns, pieces) < 0:
            raise NotCovered("a product for which there is no kernel")
        packed = self._input(("packed", (right, rows, pieces, turned[1])))
        return left, packed, (rows, inner, columns, pieces)

    def _reduce(self, node: Node) -> Memory:
        axes, source = sorted(node.params["axes"]), node.inputs[0]
        rank = len(source.shape)
        if node.dtype != FLOAT or not axes or not source.size:
            raise NotCovered("a reduction")
        of_rows = axes == list(range(rank - len(axes), rank))
        if not of_rows and axes != list(range(len(axes))):
            raise NotCovered("a reduction of axes in the middle")
        cut = rank - len(axes) if of_rows else len(axes)
        rows = int(np.prod(source.shape[:cut], dtype=np.int64))
        columns = source.size // rows
        memory = self._dense(source)
        phase = memory.phase + 1
        out = replace(self._home(node) or self._scratch(node.shape), phase=phase)
        self.reductions.append(
            Reduction(phase, node.op == "reduce_max", of_rows, memory, rows, columns, out)
        )
        return out

    def _concatenate(self, node: Node) -> Joined:
        return Joined(node.inputs, node.params["dimension"])

    def _read(self, node: Node) -> Memory:
        number = self.list_read(node)
        found = self._element(number, node.inputs[1], node.shape, element(node))
        written = self.lists[number].written
        if written is not None:
            found = replace(found, phase=written[0])
        return found

    def _write(self, node: Node) -> None:
        number, update = self.list_written(node), node.inputs[1]
        to = self._element(number, node.inputs[2], update.shape, element(update))
        if self.lists[number].written is not None:
            raise NotCovered("two elements of a list in one iteration")
        self.lists[number].written = self._store(update, to), to

    # ---- the end

    def _finish(self) -> None:
        for i in self.outputs:
            result = self.body.results[i]
            if i in self._list_of:
                if self._versions[i] is not result:
                    raise NotCovered("a list that is not the latest one")
            elif is_scalar(self.body.carries[i]):
                self.scalars.carry(i, result)
            else:
                number = self._carried(i)
                base = self.base(CARRIED_NEXT, number)
                self._store(
                    result, Memory(base, 0, result.shape, dense(result.shape), element(result))
                )
        self._check_lists()

    def _check_lists(self) -> None:
        """What is read of a list as it was before the iteration must be read before it is written."""
        for memory, phase, is_elementwise in self._reads():
            if memory.phase >= 0 or memory.element in (SCALAR, SCALAR_TRUTH):
                continue
            kind, number, _ = self.bases[memory.base]
            written = self.lists[number].written if kind == ELEMENT else None
            if written is None or phase < written[0]:
                continue
            # In one program each element is read before it is written.
            same = is_elementwise and memory.place == written[1].place
            if phase > written[0] or not same or not self._are_one_cluster(memory, written):
                raise NotCovered("a list that is read after it is written")

    def _are_one_cluster(self, read: Memory, written: tuple[int, Memory]) -> bool:
        """Whether all that reads and writes an element of a list in a phase is one elementwise program."""
        users = [
            c
            for c in self.clusters
            if c.phase == written[0]
            and any(m.base == read.base for m in (*self.operands_of(c), *_targets(c)))
        ]
        return len(users) == 1

    def operands_of(self, cluster: Cluster) -> list[Memory]:
        """What a cluster reads, where that is in memory."""
        inputs = {i for n in cluster.nodes for i in n.inputs if not is_scalar(i)}
        operands = [self._where[i] for i in inputs] + [self._stored.get(i) for i in inputs]
        operands += [c for c, _ in cluster.copies]
        return [o for o in operands if isinstance(o, Memory)]

    def _reads(self) -> list[tuple[Memory, int, bool]]:
        found = [(d.left, d.phase, False) for d in self.dots]
        found += [(r.source, r.phase, False) for r in self.reductions]
        for cluster in self.clusters:
            found += [(o, cluster.phase, True) for o in self.operands_of(cluster)]
        return found


def _targets(cluster: Cluster) -> list[Memory]:
    return [to for _, to in (*cluster.stores, *cluster.copies)]


_RULES: dict[str, Callable[[Plan, Node], Any]] = {
    "dot_general": Plan._dot,
    "ffi_call": Plan._dot,
    "reduce_sum": Plan._reduce,
    "reduce_max": Plan._reduce,
    "concatenate": Plan._concatenate,
    "dynamic_slice": Plan._read,
    "dynamic_update_slice": Plan._write,
}
