"""The parts of JAX that are not its stable API, each in one place with what it stands for.

Checked with jax 0.10; a release that moves one of them needs a change here and nowhere else.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
from jax._src import array as _array
from jax._src import config as _config
from jax._src import core as _core
from jax._src.interpreters import pxla as _pxla
from jax._src.lib import _profiler

# The class of concrete arrays: `value.__class__ is ARRAY` costs a tenth of `isinstance(value, jax.Array)`.
ARRAY: type = _array.ArrayImpl

# Entering 64-bit mode by its context manager costs 1.2 microseconds of each run, swapping the thread's setting 0.2.
swap_x64 = _config.enable_x64.swap_local
restore_x64 = _config.enable_x64.set_local


def run_where_called() -> None:
    """Has programs for the CPU run in the thread that calls them; to be called before JAX starts.

    By itself JAX hands each to a thread of its own, which gives the program's scratch memory back some time after the result
    is there: the next run then has taken as much already, and the process grows by that. The way there and back takes
    longer than many a step. The environment variable HEADRACE_ASYNC_DISPATCH=1 leaves JAX as it is.
    """
    if os.environ.get("HEADRACE_ASYNC_DISPATCH", "") in ("", "0"):
        jax.config.update("jax_cpu_enable_async_dispatch", False)


def current_trace() -> Any:
    """The trace that records what is computed now."""
    return _core.trace_ctx.trace


def trace_of(tracer: Any) -> Any:
    """The trace that a tracer belongs to."""
    return tracer._trace


def settings_of_thread() -> Any:
    """JAX's settings as they are here, also those that hold inside of a block: equal where programs are the same."""
    return _config.trace_context()


def on_device(value: Any) -> Any:
    """A NumPy array as one of JAX's default device; it shares the memory where that begins at a multiple of 64 bytes.

    `device_put` takes eight times as long.
    """
    aval = jax.core.ShapedArray(value.shape, value.dtype)
    sharding, devices = _default_place(jax.config.jax_default_device)
    return _pxla.batched_device_put(aval, sharding, [value], devices, False)


@functools.cache
def _default_place(default_device: Any) -> tuple[Any, list[Any]]:
    """Where JAX puts an array while this is its setting of a default device."""
    sharding = jax.numpy.zeros(()).sharding
    return sharding, list(sharding.device_set)


def with_results_replaced(
    function: Callable[..., Sequence[Any]],
    arguments: Sequence[Any],
    replace: Callable[[int, Any], Any],
) -> list[Any]:
    """The results of `function`, result `i` replaced by `replace(i, result)`, also where other results come of it."""
    closed = jax.make_jaxpr(function)(*arguments)
    jaxpr = closed.jaxpr
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*closed.consts, *arguments], strict=True))
    places = {out: i for i, out in enumerate(jaxpr.outvars) if isinstance(out, _core.Var)}
    replaced: dict[int, Any] = {}

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, _core.Literal) else known[atom]

    for eqn in jaxpr.eqns:
        made = eqn.primitive.bind(*map(read, eqn.invars), **eqn.params)
        for var, value in zip(
            eqn.outvars, made if eqn.primitive.multiple_results else [made], strict=True
        ):
            if var in places:
                value = replaced[places[var]] = replace(places[var], value)
            known[var] = value
    return [
        replaced[i] if i in replaced else replace(i, read(out))
        for i, out in enumerate(jaxpr.outvars)
    ]


def shards_of(array: Any) -> tuple[Any, ...]:
    """The arrays of the devices that make up `array`, in their order; `addressable_shards` takes twenty times as long."""
    return tuple(array._arrays)


def end_to_end(parts: Sequence[Any], sharding: Any, devices: Sequence[Any]) -> Any:
    """`parts` along the first axis as one array of all `devices`: NumPy arrays, or arrays that are there already.

    `device_put` of each takes eight times as long. `sharding` must be along the first axis: of parts that it takes for
    equal, JAX sends the first to all devices.
    """
    first = parts[0]
    shape = (len(parts) * first.shape[0], *first.shape[1:])
    aval = jax.core.ShapedArray(shape, first.dtype)
    return _pxla.batched_device_put(aval, sharding, list(parts), list(devices))


@contextlib.contextmanager
def x64() -> Iterator[None]:
    """A block in which int64 and float64 are real (JAX's own default stays as the user set it)."""
    with jax.enable_x64(True):
        yield


class Executed(NamedTuple):
    """One instruction of a program that ran, from `start` to `end` (seconds since the epoch), in a thread or stream."""

    module: str
    instruction: str
    lane: int
    start: float
    end: float


def profiled(run: Callable[[], Any]) -> tuple[Any, list[Executed] | None]:
    """The result of `run`, and what XLA's profiler saw of programs while it ran; None: a profile was being made already."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    session = _profiler.ProfilerSession(options)
    try:
        result = run()
    finally:
        try:
            written = session.stop()
        except jax.errors.JaxRuntimeError:  # another session is at work, which goes on
            written = None
    if written is None:
        return result, None
    return result, list(_executed(jax.profiler.ProfileData.from_serialized_xspace(written)))


def _executed(profile: Any) -> Iterator[Executed]:
    begun, lane = 0.0, 0
    for plane in profile.planes:
        begun = dict(plane.stats).get("profile_start_time", begun)
    for plane in profile.planes:
        for line in plane.lines:
            lane += 1
            for event in line.events:
                stats = dict(event.stats)
                if "hlo_op" in stats and "hlo_module" in stats and event.duration_ns:
                    start = (begun + event.start_ns) / 1e9
                    end = start + event.duration_ns / 1e9
                    yield Executed(str(stats["hlo_module"]), str(stats["hlo_op"]), lane, start, end)
