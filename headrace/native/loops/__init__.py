"""Loops as one call of native code: `repeat` traces the body of a loop, `Plan` says what is done when, `encode` writes it down."""

from headrace.native.loops.body import NotCovered
from headrace.native.loops.host import HostLoop
from headrace.native.loops.repeat import in_one_call, repeat

__all__ = ["HostLoop", "NotCovered", "in_one_call", "repeat"]
