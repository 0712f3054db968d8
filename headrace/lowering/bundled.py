"""How state and results pass between a program and its caller: small arrays together, in bundles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from headrace.lowering.state import INITIAL, Version
from headrace.native.bundle import Layout, Misfit, is_small

# Fewer arrays than this pass as quickly by themselves.
_LEAST_STATE, _LEAST_RESULTS = 3, 2


@dataclass(frozen=True, slots=True)
class StateBundle:
    """Variables whose values go into a program in one buffer; what `writes` names (of each, or none) comes back in one."""

    reads: tuple[Version, ...]
    writes: tuple[Version, ...]
    layout: Layout


@dataclass(frozen=True, slots=True)
class Arrangement:
    """The way of each variable into a program (donated or kept, by itself, or in one of `bundles`) and back.

    The bundle of what changes comes before that of what does not. No bundle is donated: where a check fails, the old one
    is as it was.
    """

    donated: tuple[Version, ...]
    kept: tuple[Version, ...]
    writes: tuple[Version, ...]
    bundles: tuple[StateBundle, ...] = ()

    @property
    def changing(self) -> StateBundle | None:
        """The bundle that comes back, None where there is none."""
        return self.bundles[0] if self.bundles and self.bundles[0].writes else None

    def unbundled(self) -> list[str]:
        """The variables that go in by themselves, with the values from before the run."""
        return [key for key, version in (*self.donated, *self.kept) if version == INITIAL]

    def written(self, written: tuple, changed: Any) -> Iterator[tuple[Version, Any]]:
        """The versions that a program has returned, with their values."""
        yield from zip(self.writes, written, strict=True)
        bundle = self.changing
        if bundle is not None:
            yield from zip(bundle.writes, bundle.layout.split(changed), strict=True)


def arrange(plain: Arrangement, values: Mapping[Version, Any], apart: set[str]) -> Arrangement:
    """`plain` with what is small of the state in bundles.

    values: what is read, as arrays. apart: the keys that are in no bundle.
    """
    versions: dict[str, list[Version]] = {}
    for write in plain.writes:
        versions.setdefault(write[0], []).append(write)
    changing: list[tuple[Version, Version]] = []
    reading: list[Version] = []
    for read in (*plain.donated, *plain.kept):
        key, version = read
        if version != INITIAL or key in apart or not is_small(values[read]):
            continue
        written = versions.get(key, ())
        if not written:
            reading.append(read)
        elif len(written) == 1:
            changing.append((read, written[0]))
    bundles: list[StateBundle] = []
    if len(changing) >= _LEAST_STATE:
        reads, writes = zip(*changing, strict=True)
        bundles.append(StateBundle(reads, writes, Layout.of(values[r] for r in reads)))
    if len(reading) >= _LEAST_STATE:
        bundles.append(StateBundle(tuple(reading), (), Layout.of(values[r] for r in reading)))
    if not bundles:
        return plain
    gone = {r for b in bundles for r in b.reads}
    back = {w for b in bundles for w in b.writes}
    return Arrangement(
        tuple(r for r in plain.donated if r not in gone),
        tuple(r for r in plain.kept if r not in gone),
        tuple(w for w in plain.writes if w not in back),
        tuple(bundles),
    )


class _Form:
    """Which of the results of a program are in the bundle, and how they are put together."""

    __slots__ = ("count", "fallible", "flat", "layout", "loose", "places", "tree")

    def __init__(self, leaves: Sequence[Any], tree: Any, plain: bool, fallible: bool) -> None:
        """leaves: of (outcome, outputs). plain: each output is one array, none a list of tensors."""
        self.tree, self.fallible = tree, fallible
        self.places = tuple(i for i, leaf in enumerate(leaves) if is_small(leaf))
        inside = set(self.places)
        self.loose = tuple(i for i in range(len(leaves)) if i not in inside)
        self.layout = Layout.of(leaves[i] for i in self.places)
        # Whether all results are outputs, each one array.
        self.flat = not fallible and plain


@jax.tree_util.register_pytree_node_class
class Bundled:
    """The outputs of a program and the outcome of its checks, what is small of them in one buffer."""

    __slots__ = ("_buffer", "_form", "_loose")

    def __init__(self, buffer: Any, loose: tuple, form: _Form) -> None:
        self._buffer, self._loose, self._form = buffer, loose, form

    @property
    def fallible(self) -> bool:
        """Whether there are checks."""
        return self._form.fallible

    def take(self) -> tuple[tuple, tuple]:
        """(outputs, outcome) as the program computed them, those of the bundle as views of it. Waits for the program."""
        form = self._form
        arrays = form.layout.split(self._buffer)
        if form.loose:
            leaves: list[Any] = [None] * (len(arrays) + len(self._loose))
            for i, array in zip(form.places, arrays):
                leaves[i] = array
            for i, array in zip(form.loose, self._loose):
                leaves[i] = array
            arrays = leaves
        if form.flat:
            return tuple(arrays), ()
        outcome, outputs = jax.tree.unflatten(form.tree, arrays)
        return outputs, outcome

    def tree_flatten(self) -> tuple[tuple, _Form]:
        """For JAX: what is traced, and what is not."""
        return (self._buffer, self._loose), self._form

    @classmethod
    def tree_unflatten(cls, form: _Form, children: tuple) -> Bundled:
        """The inverse of `tree_flatten`."""
        buffer, loose = children
        return cls(buffer, loose, form)


def results_of(outputs: tuple, outcome: tuple, bundle: bool) -> Any:
    """What a traced program returns for its outputs and the outcome of its checks: these two, or both as a `Bundled`."""
    leaves, tree = jax.tree.flatten((outcome, outputs))
    if bundle and sum(map(is_small, leaves)) >= _LEAST_RESULTS:
        form = _Form(leaves, tree, jax.tree_util.all_leaves(outputs), bool(outcome))
        buffer = form.layout.bundle([leaves[i] for i in form.places])
        return Bundled(buffer, tuple(leaves[i] for i in form.loose), form)
    return outputs, outcome


def take(results: Any) -> tuple[tuple, tuple]:
    """(outputs, outcome) of what a program returned."""
    return results.take() if results.__class__ is Bundled else results


__all__ = ["Arrangement", "Bundled", "Misfit", "StateBundle", "arrange", "results_of", "take"]
