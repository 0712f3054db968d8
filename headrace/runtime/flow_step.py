"""A step with nodes of old control flow: each operation runs when its inputs have come, once for each iteration.

A tensor on the side that a Switch does not choose is dead, and so is what follows from it, up to a Merge. Between Enter and
Exit a tensor belongs to an iteration of a frame. Nothing is compiled as a whole: `tf.cond` and `tf.while_loop` make no such
nodes, and imported graphs lose theirs (`api/legacy_control_flow.py`).
"""

from __future__ import annotations

import collections
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from headrace.core import errors
from headrace.graph.op_def import Flow
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.lowering import context
from headrace.lowering.evaluate import Values, store_outputs
from headrace.lowering.state import INITIAL, Slot, StateView
from headrace.passes.segments import Segment, Split
from headrace.passes.state_order import is_handle, names_variable
from headrace.runtime.interpreter import Observer, as_list
from headrace.runtime.step import Step

Place = tuple[tuple[str, int], ...]
"""The frames around an operation, the outermost first, and the iteration of each."""

_MOVES = frozenset((Flow.ENTER, Flow.EXIT, Flow.NEXT))


class _Memory(StateView):
    """Variables as they are at the moment: what runs later sees what ran before, in whatever order that is."""

    __slots__ = ()

    def read(self, key: str, version: int) -> Any:
        """The present value, whatever the version."""
        return super().read(key, self.newest(key))

    def write(self, key: str, version: int, value: Any) -> None:
        """Sets the present value."""
        super().write(key, self.newest(key) + 1, value)


class _Activation:
    """What has come to the operations of one iteration."""

    __slots__ = ("alive", "arrived", "dead", "done", "lost", "taken", "values")

    def __init__(self) -> None:
        self.values: Values = {}
        self.alive: set[Tensor] = set()
        self.dead: set[Operation] = set()  # those with a dead input, a Merge with nothing else
        self.arrived: collections.Counter[Operation] = collections.Counter()
        # Of each Merge the number of dead inputs, and which came alive first.
        self.lost: collections.Counter[Operation] = collections.Counter()
        self.taken: dict[Operation, int] = {}
        self.done: set[Operation] = set()


class FlowStep(Step):
    """The plan for one set of fetches, targets and feeds that need nodes of old control flow."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        # Who gets a tensor, or hears that an operation has run; once for each edge.
        self._users: dict[Tensor | Operation, list[Operation]] = {}
        self._awaited: dict[Operation, int] = {}
        inside = set(self.ops)
        for op in self.ops:
            sources = [*op._inputs, *(c for c in op._control_inputs if c in inside)]
            for source in sources:
                self._users.setdefault(source, []).append(op)
            self._awaited[op] = len(sources)
            if op._definition.flow == Flow.MERGE:
                self._awaited[op] -= len(op._inputs)
                self._check_references(op)
        self._check_frames()

    # ---- planning

    def _cut(self) -> Split:
        return Split([Segment(False, list(self.ops))], set(), set(), set())

    def _check_references(self, op: Operation) -> None:
        keys = {self.order.key(t) for t in op._inputs if t._dtype.is_ref_dtype}
        if op._outputs[0]._dtype.is_ref_dtype and len(keys) > 1:
            raise errors.UnimplementedError(
                None, op, f"{op.type} op {op._name!r} merges references to different variables"
            )

    def _check_frames(self) -> None:
        """Raises InvalidArgumentError: an operation has inputs from different frames."""
        frames: dict[Tensor | Operation, tuple[str, ...]] = {}
        for op in self.ops:
            sources = [*(t for t in op._inputs if t not in self.fed), *op._control_inputs]
            known = [(s, frames[s]) for s in sources if s in frames]
            frame = known[0][1] if known else ()
            for source, other in known:
                if other != frame:
                    first = known[0][0]
                    raise errors.InvalidArgumentError(
                        None,
                        op,
                        f"{{node {op._name}}} has inputs from different frames. The input "
                        f"{_node(first)} is in frame '{_named(frame)}'. The input {_node(source)} is in frame "
                        f"'{_named(other)}'.",
                    )
            if op._definition.flow == Flow.ENTER:
                frame = (*frame, op._attrs["frame_name"])
            elif op._definition.flow == Flow.EXIT:
                frame = frame[:-1]
            frames.update((end, frame) for end in (op, *op._outputs))

    # ---- running

    @property
    def direct(self) -> None:
        """None: `run` decides as it goes."""
        return None

    def run(self, feed_values: list[Any]) -> list[Any]:
        """As Step's. Raises InvalidArgumentError: what is fetched is dead."""
        return self.run_observed(feed_values, None, None)

    def run_until(self, feed_values: list[Any], deadline: float | None) -> list[Any]:
        """As `run`. Raises DeadlineExceededError: `deadline` (of `time.monotonic`) has passed."""
        return self.run_observed(feed_values, None, deadline)

    def run_traced(self, feed_values: list[Any], observe: Observer, recorder: Any) -> list[Any]:
        """As Step's: all that runs, runs by itself."""
        return self.run_observed(feed_values, observe, None)

    def run_observed(
        self, feed_values: list[Any], observe: Observer | None, deadline: float | None
    ) -> list[Any]:
        """As Step's; an operation in a loop is told of once for each iteration."""
        self.ensure_generators()
        state = _Memory(self.load)
        with context.running(self), self.resources.lock:
            run = _Run(self, state, observe, deadline)
            run.start(feed_values)
            results = [run.fetched(t) for t in self.fetches]
            self.commit(state.written)
        return [np.array(r) if hasattr(r, "shape") else r for r in results]


def _node(item: Tensor | Operation) -> str:
    return f"{{node {(item._op if isinstance(item, Tensor) else item)._name}}}"


def _named(frame: tuple[str, ...]) -> str:
    return frame[-1] if frame else ""


class _Run:
    """One run of a FlowStep."""

    def __init__(
        self, step: FlowStep, state: _Memory, observe: Observer | None, deadline: float | None
    ) -> None:
        self._step, self._state, self._observe, self._deadline = step, state, observe, deadline
        self._at: dict[Place, _Activation] = collections.defaultdict(_Activation)
        self._queue: collections.deque[tuple[Place, Operation, bool]] = collections.deque()
        # By frame: what does not change from iteration to iteration, and the iterations that there are.
        self._constants: dict[tuple[Place, str], list[tuple[Tensor, Any, bool]]] = {}
        self._iterations: dict[tuple[Place, str], list[Place]] = collections.defaultdict(list)
        self._left: set[tuple[Place, Operation]] = set()  # Exits that gave a value
        self._dead_exits: dict[tuple[Place, Operation], None] = {}

    def start(self, feed_values: Sequence[Any]) -> None:
        """Runs all that comes to run."""
        step = self._step
        for tensor, value in zip(step.feeds, feed_values, strict=True):
            self._give((), tensor, value, False)
        for op in step.ops:
            if not step._awaited[op] and op._definition.flow != Flow.MERGE:
                self._queue.append(((), op, False))
        self._drain()
        while self._dead_exits:
            # Where nothing runs any more, loops that gave nothing are dead as a whole.
            place, op = next(iter(self._dead_exits))
            del self._dead_exits[place, op]
            if (place, op) not in self._left:
                self._finish(place, op, [None], True, place)
                self._drain()

    def fetched(self, tensor: Tensor) -> Any:
        """The value of a fetch. Raises InvalidArgumentError: it is dead."""
        root = self._at[()]
        number = self._step.fetches.index(tensor)
        if tensor not in root.alive:
            raise errors.InvalidArgumentError(
                None, None, f"Retval[{number}] does not have value: {tensor.name} is dead"
            )
        return self._step.fetched(tensor, root.values, self._state)

    def _drain(self) -> None:
        while self._queue:
            place, op, is_dead = self._queue.popleft()
            if self._deadline is not None and time.monotonic() > self._deadline:
                raise errors.DeadlineExceededError(
                    None, op, f"Timed out before operation {op._name!r} of the step"
                )
            self._run(place, op, is_dead)

    def _run(self, place: Place, op: Operation, is_dead: bool) -> None:
        here, flow = self._at[place], op._definition.flow
        if op in here.done:
            return
        here.done.add(op)
        if op._outputs and not op._inputs and all(t in self._step.fed for t in op._outputs):
            self._tell(place, op, False)
        elif is_dead or flow == Flow.NONE:
            results = [None] * len(op._outputs) if is_dead else self._evaluate(op, here)
            if flow == Flow.EXIT:
                self._dead_exits[place[:-1], op] = None
            elif flow != Flow.NEXT:
                self._finish(self._inner(place, op), op, results, is_dead, place)
        elif flow == Flow.SWITCH:
            data, pred = op._inputs
            chosen = int(bool(np.asarray(here.values[pred])))
            results = [self._value(op, data, here)] * 2
            self._finish(place, op, results, False, place, dead_output=1 - chosen)
        elif flow == Flow.MERGE:
            index = here.taken[op]
            results = [self._value(op, op._inputs[index], here), np.int32(index)]
            self._finish(place, op, results, False, place)
        else:
            results = [self._value(op, op._inputs[0], here)]
            if flow == Flow.EXIT:
                self._left.add((place[:-1], op))
            self._finish(self._inner(place, op), op, results, False, place)

    def _evaluate(self, op: Operation, here: _Activation) -> list[Any]:
        step = self._step
        if names_variable(op):
            return [None] * len(op._outputs)
        start = time.time()
        results = step.interpreter.evaluate(op, here.values, self._state)
        if self._observe is not None:
            self._observe(op, start, time.time(), as_list(results))
        found: Values = {}
        store_outputs(op, results, found)
        return [found.get(t) for t in op._outputs]

    def _value(self, op: Operation, tensor: Tensor, here: _Activation) -> Any:
        """What `op`, which passes it on, gets of an input: of a reference its value, unless it passes that on."""
        value = here.values.get(tensor)
        if not is_handle(tensor) or (value is not None and not isinstance(value, Slot)):
            return value
        key = self._step.order.key(tensor)
        if key is None or is_handle(op._outputs[0]):
            return None
        return self._state.read(key, INITIAL)

    # ---- what has run gives its outputs to others

    @staticmethod
    def _inner(place: Place, op: Operation) -> Place:
        """Where the outputs of `op` are, which runs at `place`."""
        flow = op._definition.flow
        if flow == Flow.ENTER:
            return (*place, (op._attrs["frame_name"], 0))
        if flow == Flow.EXIT:
            return place[:-1]
        if flow == Flow.NEXT:
            return (*place[:-1], (place[-1][0], place[-1][1] + 1))
        return place

    def _finish(
        self,
        place: Place,
        op: Operation,
        results: Sequence[Any],
        is_dead: bool,
        source: Place,
        dead_output: int = -1,
    ) -> None:
        """Gives the outputs of `op`, which ran at `source`, to those who wait for them at `place`."""
        if place != source or op._definition.flow in _MOVES:
            self._open(place)
        fed = self._step.fed
        outputs = zip(op._outputs, results, strict=True)
        given = [(t, v, is_dead or i == dead_output) for i, (t, v) in enumerate(outputs)]
        given = [g for g in given if g[0] not in fed]
        if op._definition.flow == Flow.ENTER and op._attrs["is_constant"]:
            frame = place[:-1], place[-1][0]
            self._constants.setdefault(frame, []).extend(given)
            places = list(self._iterations[frame])
        else:
            places = [place]
        for target in places:
            for tensor, value, lost in given:
                self._give(target, tensor, value, lost)
            self._tell(target, op, is_dead)

    def _open(self, place: Place) -> None:
        """Makes an iteration, with what is the same in all of its frame."""
        if not place or place in self._at:
            return
        frame = place[:-1], place[-1][0]
        self._at[place]
        self._iterations[frame].append(place)
        for tensor, value, lost in self._constants.get(frame, ()):
            self._give(place, tensor, value, lost)
            self._tell(place, tensor._op, lost)

    def _give(self, place: Place, tensor: Tensor, value: Any, is_dead: bool) -> None:
        here = self._at[place]
        if not is_dead:
            here.alive.add(tensor)
            if value is not None:
                here.values[tensor] = value
        for op in self._step._users.get(tensor, ()):
            if op._definition.flow == Flow.MERGE:
                self._give_merge(place, op, tensor, is_dead)
            else:
                self._arrive(place, op, here, is_dead)

    def _give_merge(self, place: Place, op: Operation, tensor: Tensor, is_dead: bool) -> None:
        here = self._at[place]
        if is_dead:
            here.lost[op] += 1
            if here.lost[op] == sum(t._op._definition.flow != Flow.NEXT for t in op._inputs):
                here.dead.add(op)
        else:
            here.taken.setdefault(op, op._inputs.index(tensor))
        self._run_merge_if_ready(place, op)

    def _run_merge_if_ready(self, place: Place, op: Operation) -> None:
        here = self._at[place]
        if here.arrived[op] == self._step._awaited[op] and (op in here.taken or op in here.dead):
            self._queue.append((place, op, op not in here.taken))

    def _arrive(self, place: Place, op: Operation, here: _Activation, is_dead: bool) -> None:
        here.arrived[op] += 1
        if is_dead:
            here.dead.add(op)
        if here.arrived[op] == self._step._awaited[op]:
            self._queue.append((place, op, op in here.dead))

    def _tell(self, place: Place, op: Operation, is_dead: bool) -> None:
        """Those that wait for `op` by a control edge hear that it has run."""
        here = self._at[place]
        for user in self._step._users.get(op, ()):
            if user._definition.flow == Flow.MERGE:  # runs whether or not what it waits for is dead
                here.arrived[user] += 1
                self._run_merge_if_ready(place, user)
            else:
                self._arrive(place, user, here, is_dead)
