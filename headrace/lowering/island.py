"""An island: operations compiled by XLA as one program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from headrace.core import dtypes
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor
from headrace.lowering import checks
from headrace.lowering.bundled import Arrangement, Misfit, StateBundle, arrange, results_of
from headrace.lowering.evaluate import Values, trace
from headrace.lowering.fused import NOTHING, find_fusions, fusing
from headrace.lowering.mixed_precision import narrowing
from headrace.lowering.recent import Recent
from headrace.lowering.rematerialize import Rematerialize, trace_rematerialized
from headrace.lowering.state import Slot, StateView, Version
from headrace.lowering.together import Readers
from headrace.native import noted
from headrace.native.kept import KeptFilters, tracing
from headrace.passes.mixed_precision import Narrow
from headrace.passes.state_order import StateOrder

# Larger constants are arguments of the program: as literals they slow the compiler down and are kept twice.
LITERAL_BYTES = 1 << 16

# A value that decides a shape may be another one in each run: so many of its programs are kept.
_MAX_PROGRAMS = 64


class Island:
    """One segment of a step as a compiled program.

    inputs: tensors whose values come from feeds or earlier segments; static ones are those whose value decides a shape.
    outputs: tensors that are fetched or used by later segments.
    reads, writes: (key, version) of the state that goes in and comes out. donate: the old buffers of what is written are
    reused, and what comes out must be stored even where a check failed. label: the name of the program. rematerialize:
    whether gradients use values that are computed again. narrow: what computes in 16 bits. bundle: small arrays pass
    together, see `lowering.bundled`.
    """

    def __init__(
        self,
        ops: Sequence[Operation],
        inputs: Sequence[Tensor],
        static_inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        reads: Sequence[Version],
        writes: Sequence[Version],
        order: StateOrder,
        must_fold: set[Operation],
        free: Sequence[Operation],
        fed: frozenset[Tensor],
        donate: bool,
        label: str,
        rematerialize: Rematerialize | None = None,
        narrow: Narrow | None = None,
        bundle: bool = False,
    ) -> None:
        self.label = label
        self._bundle = bundle
        self._rematerialize, self._narrow = rematerialize, narrow
        self.ops, self.inputs, self.static_inputs, self.outputs = (
            ops,
            tuple(inputs),
            tuple(static_inputs),
            tuple(outputs),
        )
        self.reads = tuple(reads)
        self._plain = self.arrangement = Arrangement(*paired(reads, writes, donate))
        self._arranged = not bundle
        self._apart: set[str] = set()  # variables that do not fit into bundles
        self._order, self._must_fold, self._fed = order, must_fold, fed
        self._literals: Values = {}
        large: list[tuple[Tensor, Any]] = []
        for op in free:
            array = op._definition.host_rule(op)  # type: ignore[misc]
            for tensor in op._outputs:
                if (
                    getattr(array, "nbytes", 0) > LITERAL_BYTES
                    and tensor._dtype is not dtypes.string
                ):
                    large.append((tensor, array))
                else:
                    self._literals[tensor] = array
        self._large = tuple(t for t, _ in large)
        self.constants: tuple[Any, ...] = tuple(a for _, a in large)
        self._donate = donate
        self._fusions = find_fusions(ops, set(outputs), fed)
        self._filters = KeptFilters() if self._fusions.chains else None
        self._programs: Recent[tuple[Any, checks.Collector]] = Recent(_MAX_PROGRAMS)

    def forget_programs(self) -> None:
        """Has the programs traced again at the next call."""
        self._programs.clear()

    def arguments(
        self, read: Callable[[str, int], Any], inputs: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        """What a program of this island is called with. read: gives the value of a version of a variable.

        The first call, and one in which a variable has another shape than it had, decide on `arrangement`.
        """
        values = {r: read(*r) for r in self.reads}
        if not self._arranged:
            self.arrangement, self._arranged = arrange(self._plain, values, self._apart), True
            self.forget_programs()
        try:
            return self._arguments(values, inputs)
        except Misfit:
            self.arrangement = arrange(self._plain, values, self._apart)
            self.forget_programs()
            return self._arguments(values, inputs)

    def _arguments(self, values: dict[Version, Any], inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        to = self.arrangement
        bundles = tuple(b.layout.join([values[r] for r in b.reads]) for b in to.bundles)
        donated, kept = (tuple(values[r] for r in part) for part in (to.donated, to.kept))
        return donated, bundles, kept, inputs, self.constants, self.filters(kept)

    @property
    def has_filters(self) -> bool:
        """Whether programs get the numbers of filters."""
        return self._filters is not None

    def filters(self, kept: tuple[Any, ...]) -> Any:
        """The last argument of a program: the numbers of filters among `kept` and the constants (see `native.kept`)."""
        return None if self._filters is None else self._filters.numbers((*kept, *self.constants))

    def program(self, static_values: Sequence[np.ndarray]) -> tuple[Any, checks.Collector]:
        """The jitted function for these static values, and its checks (filled when it is first called).

        The function takes what `arguments` returns, and gives (written state, the bundle of the arrangement that changes
        or None, what `lowering.bundled.take` makes (outputs, checks) of); the checks end with the old values of what is
        donated (see `guarded`).
        """
        key = static_key(static_values)
        found = self._programs.find(key)
        if found is None:
            collector = checks.Collector()
            function = self._function(
                dict(zip(self.static_inputs, static_values, strict=True)), collector
            )
            donates = self._donate and self.arrangement.donated
            found = jax.jit(function, donate_argnums=(0,) if donates else ()), collector
            self._programs.add(key, found)
        return found

    def only_program(self) -> tuple[Any, checks.Collector] | None:
        """The one program that there is, and its checks; None where there is none, or one for each static value."""
        programs = self._programs.values()
        return programs[0] if len(programs) == 1 and not self.static_inputs else None

    def sizes(
        self, static_values: Sequence[np.ndarray], arguments: tuple[Any, ...]
    ) -> dict[Tensor, tuple[tuple[int, ...], int]]:
        """The shape and the bytes of each tensor in the program for these static values and arguments."""
        values: Values = {}
        statics = dict(zip(self.static_inputs, static_values, strict=True))
        jax.eval_shape(self._function(statics, checks.Collector(), values), *arguments)
        return {
            tensor: (tuple(value.shape), int(value.size) * value.dtype.itemsize)
            for tensor, value in values.items()
            if isinstance(value, (jax.Array, np.ndarray, np.generic))
        }

    def _function(
        self, static_values: Values, collector: checks.Collector, seen: Values | None = None
    ) -> Any:
        """The function to compile; each time it is traced, `seen` gets all its values."""

        to = self.arrangement

        def island(
            donated: tuple,
            bundles: tuple,
            kept: tuple,
            inputs: tuple,
            constants: tuple,
            filters: Any,
        ):
            state = StateView(_not_read)
            read = [*zip(to.donated, donated), *zip(to.kept, kept)]
            for bundle, buffer in zip(to.bundles, bundles):
                read += zip(bundle.reads, bundle.layout.unbundle(buffer))
            for (key, version), value in read:
                state.put(key, version, value)
            values: Values = dict(self._literals)
            values.update(zip(self._large, constants, strict=True))
            values.update(zip(self.inputs, inputs, strict=True))
            values.update(static_values)
            collector.checks.clear()
            with (
                checks.collecting(collector),
                narrowing(self._narrow),
                noted.results() as made,
            ):
                parts = (self.ops, values, self._order, state, self._must_fold, self._fed)
                if self._rematerialize is None:
                    # Whoever wants to see all values gets those inside too.
                    with (
                        fusing(self._fusions if seen is None else NOTHING),
                        tracing(self._filters, (*kept, *constants), filters),
                    ):
                        trace(*parts)
                else:
                    trace_rematerialized(*parts, self._rematerialize)
            if seen is not None:
                seen.update(values)
            outcome = checks.outcome_of(collector)
            state.settle(
                outcome[0] if outcome else None,
                dict(to.donated),
                Readers(self.ops, self.outputs, values, made).of,
            )
            outputs = tuple(self._output(t, values, state) for t in self.outputs)
            restored: tuple = ()
            if outcome and to.donated:
                written, restored = guarded(state, outcome[0], to.donated, to.writes)
                outcome = (*outcome, restored)
            else:
                written = tuple(strong(state.read(*version)) for version in to.writes)
            others = (*donated, *kept, *inputs, *constants, *written, *restored)
            collector.note_outputs(outputs, others)
            changed = self._changed(to.changing, state) if to.changing is not None else None
            return written, changed, results_of(outputs, outcome, self._bundle)

        island.__name__ = island.__qualname__ = self.label
        return island

    def _changed(self, bundle: StateBundle, state: StateView) -> Any:
        """What comes back of a bundle."""
        values = [strong(state.read(*version)) for version in bundle.writes]
        try:
            return bundle.layout.bundle(values)
        except Misfit as misfit:
            # It was read in one shape and is written in another.
            self._apart.add(bundle.writes[misfit.index][0])
            self._arranged = False
            self.forget_programs()
            raise

    def _output(self, tensor: Tensor, values: Values, state: StateView) -> Any:
        value = values.get(tensor)
        if tensor._dtype.is_ref_dtype and (value is None or isinstance(value, Slot)):
            return state.read(self._order.key(tensor), self._order.fetch_version[tensor])  # type: ignore[arg-type]
        return value


def paired(
    reads: Sequence[Version], writes: Sequence[Version], donate: bool = True
) -> tuple[tuple[Version, ...], tuple[Version, ...], tuple[Version, ...]]:
    """(what goes in and is donated: it is written too; what else goes in; what is written), in a fitting order.

    Among equal shapes, JAX gives the first donated buffer to the first result, the second to the second: buffers and
    results must come in the same order of variables, or XLA copies every one of them in each step.
    """
    place = {key: i for i, (key, _) in enumerate(writes)} if donate else {}
    donated = sorted((r for r in reads if r[0] in place), key=lambda r: place[r[0]])
    reused = {key for key, _ in donated}
    kept = tuple(r for r in reads if r[0] not in place)
    return tuple(donated), kept, tuple(sorted(writes, key=lambda w: w[0] not in reused))


def guarded(
    state: StateView,
    failed: Any,
    donated: Sequence[Version],
    writes: Sequence[Version],
) -> tuple[tuple, tuple]:
    """What is written, and the old values of `donated`, of a program that may fail.

    A donated buffer is gone after the call: where a check fails, the program itself gives the old value back, as what
    is written (None among the old values), or beside it where the shape has changed.
    """
    base = dict(donated)
    newest = {key: version for key, version in writes}
    written: list[Any] = []
    restored: dict[str, Any] = {}
    for key, version in writes:
        value = None
        if key in base and version == newest[key]:
            value = state.unless(failed, key, version, base[key])
            restored[key] = state.read(key, base[key]) if value is None else None
        written.append(strong(state.read(key, version) if value is None else value))
    return tuple(written), tuple(restored[key] for key, _ in donated)


def static_key(values: Sequence[np.ndarray]) -> tuple[Any, ...]:
    """What is equal for equal arrays, for dictionaries."""
    return tuple((v.dtype.str, v.shape, v.tobytes()) for v in values)


def _not_read(key: str) -> Any:
    raise AssertionError(f"an island reads {key!r}, which its plan does not give it")


def strong(value: Any) -> Any:
    """`value` without JAX's weak type: the next run must meet the same type."""
    return jnp.asarray(value, dtype=value.dtype)
