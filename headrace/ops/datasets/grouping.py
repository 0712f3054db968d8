"""Datasets of groups: elements of one key, in windows or reduced."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.ops.datasets.dataset import (
    TYPES,
    Captured,
    Dataset,
    Element,
    GetNext,
    Held,
    IteratorContext,
    as_array,
    dataset_of,
    define_dataset,
)
from headrace.ops.datasets.order import optimized


def _key(op: Any, results: list[Any], what: str = "key") -> int:
    """The scalar int64 that a function returned. Raises InvalidArgumentError: something else."""
    value = results[0] if len(results) == 1 else None
    if value is None or value.dtype != np.int64 or value.ndim:
        raise op.invalid(f"`{what}_func` must return a scalar int64.")
    return int(value)


class _GroupByWindow(Dataset):
    """Elements of one key are collected; when there are enough, a function makes a dataset of them."""

    def __init__(self, op, source, key, reduce, window_size):
        super().__init__(op, source)
        self._key = Captured(op, "key_func", key)
        self._reduce = Captured(op, "reduce_func", reduce)
        self._window_size = Captured(op, "window_size_func", window_size)

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        source = self.source.start(context, prefix)
        key_of = self._key.instantiate(context)
        reduce, size_of = self._reduce.instantiate(context), self._window_size.instantiate(context)
        groups: dict[int, list[Element]] = {}
        sizes: dict[int, int] = {}
        current: GetNext | None = None
        ended = False
        number = 0

        def start(key: int) -> GetNext:
            nonlocal number
            group = Held(self.op, groups.pop(key), self.source.types, self.source.shapes)
            (result,) = reduce([np.array(key, np.int64), as_array(group)])
            made = dataset_of(self.op, result)
            number += 1
            return (optimized(made) if context.optimize else made).start(
                context, f"{prefix}[{number}]"
            )

        def get_next():
            nonlocal current, ended
            while True:
                if current is not None:
                    found = current()
                    if found is not None:
                        return found
                    current = None
                while not ended and current is None:
                    element = source()
                    if element is None:
                        ended = True
                        break
                    key = _key(self.op, key_of(element))
                    if key not in groups:
                        sizes[key] = _key(
                            self.op, size_of([np.array(key, np.int64)]), "window_size"
                        )
                        if sizes[key] <= 0:
                            raise self.op.invalid(
                                f"Window size must be greater than zero, but got {sizes[key]}."
                            )
                    group = groups.setdefault(key, [])
                    group.append(element)
                    if len(group) == sizes[key]:
                        current = start(key)
                if ended and current is None:
                    if not groups:
                        return None
                    current = start(min(groups))

        return get_next


def _group_by_window_dataset(op, source, key, reduce, window_size):
    return _GroupByWindow(op, dataset_of(op, source), key, reduce, window_size)


for _name in ("GroupByWindowDataset", "ExperimentalGroupByWindowDataset"):
    define_dataset(
        _name,
        "input_dataset: variant, key_func_other_arguments: Tkey_func_other_arguments, reduce_func_other_arguments: "
        "Treduce_func_other_arguments, window_size_func_other_arguments: Twindow_size_func_other_arguments",
        "key_func: func, reduce_func: func, window_size_func: func, Tkey_func_other_arguments: list(type) >= 0, "
        "Treduce_func_other_arguments: list(type) >= 0, Twindow_size_func_other_arguments: list(type) >= 0, "
        f"{TYPES}",
    )(_group_by_window_dataset)


class _GroupByReducer(Dataset):
    """One element for each key, in the order of the keys: what a reduction over its elements gives."""

    def __init__(self, op, source, key, init, reduce, finalize):
        super().__init__(op, source)
        self._key = Captured(op, "key_func", key)
        self._init = Captured(op, "init_func", init)
        self._reduce = Captured(op, "reduce_func", reduce)
        self._finalize = Captured(op, "finalize_func", finalize)

    def iterate(self, context: IteratorContext, prefix: str) -> GetNext:
        source = self.source.start(context, prefix)
        key_of, init = self._key.instantiate(context), self._init.instantiate(context)
        reduce = self._reduce.instantiate(context)
        finalize = self._finalize.instantiate(context)
        states: dict[int, list[Any]] = {}
        ended = False

        def get_next():
            nonlocal ended
            while not ended:
                element = source()
                if element is None:
                    ended = True
                    break
                key = _key(self.op, key_of(element))
                if key not in states:
                    states[key] = init([np.array(key, np.int64)])
                states[key] = reduce([*states[key], *element])
            return tuple(finalize(states.pop(min(states)))) if states else None

        return get_next


def _group_by_reducer_dataset(op, source, key, init, reduce, finalize):
    return _GroupByReducer(op, dataset_of(op, source), key, init, reduce, finalize)


for _name in ("GroupByReducerDataset", "ExperimentalGroupByReducerDataset"):
    define_dataset(
        _name,
        "input_dataset: variant, key_func_other_arguments: Tkey_func_other_arguments, init_func_other_arguments: "
        "Tinit_func_other_arguments, reduce_func_other_arguments: Treduce_func_other_arguments, "
        "finalize_func_other_arguments: Tfinalize_func_other_arguments",
        "key_func: func, init_func: func, reduce_func: func, finalize_func: func, Tkey_func_other_arguments: list(type) "
        ">= 0, Tinit_func_other_arguments: list(type) >= 0, Treduce_func_other_arguments: list(type) >= 0, "
        f"Tfinalize_func_other_arguments: list(type) >= 0, {TYPES}",
        stateful=True,
    )(_group_by_reducer_dataset)
