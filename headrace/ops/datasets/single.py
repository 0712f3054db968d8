"""What is made of a whole dataset: a reduction, its only element, the number of its elements."""

from __future__ import annotations

import numpy as np

from headrace.graph.op_def import Effect, define
from headrace.lowering import context as running
from headrace.ops.datasets.dataset import (
    TYPES,
    Captured,
    IteratorContext,
    as_array,
    dataset_of,
)
from headrace.ops.datasets.iterators import check_shapes, check_types, declared_shapes

reduce_dataset = define(
    "ReduceDataset",
    "input_dataset: variant, initial_state: Tstate, other_arguments: Targuments -> components: output_types",
    f"f: func, Tstate: list(type) >= 1, Targuments: list(type) >= 0, {TYPES}, use_inter_op_parallelism: bool = true",
    effects=Effect.STATEFUL,
    host_only=True,
    waits=True,
    keeps_functions=True,
)
reduce_dataset.shape(declared_shapes)
reduce_dataset.not_differentiable()


@reduce_dataset.host
def _reduce_dataset_host(op, source, state, captured):
    return running.call_out(_reduced, op, source, state, captured)


def _reduced(op, source, state, captured):
    function = Captured(op, "f", captured)
    context = IteratorContext()
    try:
        following = dataset_of(op, source).start(context, "ReduceIterator")
        apply = function.instantiate(context)
        state = [as_array(s) for s in state]
        while (element := following()) is not None:
            state = apply([*state, *element])
    finally:
        context.cancel()
    return tuple(state)


def _single_element_host(op, source):
    return running.call_out(_only_element, op, source)


def _only_element(op, source):
    dataset = dataset_of(op, source)
    check_types(op, op.attr("output_types"), dataset.types)
    check_shapes(op, op.attr("output_shapes"), dataset.shapes)
    context = IteratorContext()
    try:
        following = dataset.start(context, "SingleElementIterator")
        element = following()
        if element is None:
            raise op.invalid("Dataset was empty.")
        if following() is not None:
            raise op.invalid("Dataset had more than one element.")
    finally:
        context.cancel()
    return tuple(map(as_array, element))


single_element = define(
    "DatasetToSingleElement",
    "dataset: variant -> components: output_types",
    TYPES,
    effects=Effect.STATEFUL,
    host_only=True,
    waits=True,
)
single_element.shape(declared_shapes)
single_element.host(_single_element_host)
single_element.not_differentiable()


def _scalar_shape(op, source):
    return ()


def _cardinality_host(op, source):
    return np.array(dataset_of(op, source).cardinality(), np.int64)


for _name in ("DatasetCardinality", "ExperimentalDatasetCardinality"):
    _definition = define(_name, "input_dataset: variant -> cardinality: int64", host_only=True)
    _definition.shape(_scalar_shape)
    _definition.host(_cardinality_host)
    _definition.not_differentiable()
