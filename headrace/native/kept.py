"""Filters that kernels keep between runs in the order in which they want them.

An array of JAX's never changes: what is made of one is right for as long as it lives. An array that is given to programs a
second time gets a number, under which kernels keep what they make of it (`src/kept.cc`: 512 MB at most, over all). When the
array goes, because the variable has another value or its buffer was donated, so does that. Steps that train write new arrays
each time, and so keep nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from headrace.native.library import kernels

_numbers = itertools.count(1)
# By the identity of an array: a weak reference to it, and its number, 0 before it has one.
_known: dict[int, tuple[weakref.ref[Any], int]] = {}


def _number_of(array: Any) -> int:
    """The number of an array that a program gets; 0 the first time."""
    key = id(array)
    found = _known.get(key)
    if found is None or found[0]() is not array:
        _known[key] = weakref.ref(array, lambda gone: _forget(key, gone)), 0
        return 0
    reference, number = found
    if not number:
        number = next(_numbers)
        kernels().headrace_keep_filter(number)
        _known[key] = reference, number
    return number


def _forget(key: int, gone: weakref.ref[Any]) -> None:
    found = _known.get(key)
    # By now another array may have the identity.
    if found is not None and found[0] is gone:
        del _known[key]
        if found[1]:
            kernels().headrace_drop_filter(found[1])


class KeptFilters:
    """Which of the arrays that programs are called with are filters whose arrangement pays to be kept."""

    def __init__(self) -> None:
        self._places: list[int] = []

    def numbers(self, arrays: Sequence[Any]) -> np.ndarray:
        """The numbers of `arrays`, an argument of the program; 0 for what is not kept."""
        found = np.zeros(len(arrays), np.int64)
        for place in self._places:
            found[place] = _number_of(arrays[place])
        return found


class _Current(threading.local):
    program: tuple[dict[int, int], Any, list[int]] | None = None


_current = _Current()


@contextlib.contextmanager
def tracing(filters: KeptFilters | None, arrays: Sequence[Any], numbers: Any) -> Iterator[None]:
    """A block in which this thread traces a program that gets `arrays` and, as an argument too, their `numbers`."""
    before, _current.program = _current.program, None
    if filters is not None:
        _current.program = {id(a): i for i, a in enumerate(arrays)}, numbers, filters._places
    try:
        yield
    finally:
        _current.program = before


def number_in_program(array: Any) -> Any:
    """What holds the number of `array` in the program that this thread traces, and where; None: it is no argument of it."""
    if _current.program is None:
        return None
    places, numbers, used = _current.program
    place = places.get(id(array))
    if place is None:
        return None
    if place not in used:
        used.append(place)
    return numbers, place
