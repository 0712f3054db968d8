"""Operations that only order others: `tf.group`, `tf.tuple`."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

from headrace.api.export import export
from headrace.api.framework import name_scope
from headrace.core import nest
from headrace.graph import default, raw
from headrace.graph.convert import convert_to_tensor
from headrace.graph.indexed_slices import IndexedSlices
from headrace.graph.operation import Operation
from headrace.graph.tensor import Tensor


def _gate(device: str, after: Sequence[Any], name: str | None = None) -> Operation:
    graph = default.get_default_graph()
    with graph.control_dependencies(after):
        if not device:
            return raw.NoOp(name=name)
        with graph.device(device):
            return raw.NoOp(name=name)


def _device_of(value: Any) -> str:
    if not hasattr(value, "device"):
        raise TypeError(
            f"Expected tf.group() expected Tensor arguments not '{value}' with type '{type(value)}'"
        )
    return value.device or ""


@export("group")
def group(*inputs: Any, **kwargs: Any) -> Operation:
    """An operation that is done when all `inputs` (tensors, operations, or nests of them) are.

    name: its name. Raises TypeError: an input that is no tensor or operation. ValueError: an unknown argument.
    """
    name = kwargs.pop("name", None)
    if kwargs:
        raise ValueError(f"Unknown keyword arguments: {', '.join(kwargs)}")
    with name_scope(name, "group_deps", builtins.list(inputs)) as scope:
        if not inputs:
            return raw.NoOp(name=scope)
        by_device: dict[str, list[Any]] = {}
        for value in nest.flatten(inputs):
            parts = [value.values, value.indices] if isinstance(value, IndexedSlices) else [value]
            for part in parts:
                by_device.setdefault(_device_of(part), []).append(part)
        if len(by_device) == 1:
            ((device, after),) = by_device.items()
            return _gate(device, after, scope)
        gates = [_gate(device, by_device[device]) for device in sorted(by_device)]
        with default.get_default_graph().control_dependencies(gates):
            return raw.NoOp(name=scope)


def with_dependencies(dependencies: Sequence[Any], output: Any, name: str | None = None) -> Any:
    """`output` (a tensor or IndexedSlices), available once `dependencies` are done."""
    graph = default.get_default_graph()
    with name_scope(name, "control_dependency", [*dependencies, output]) as scope:
        with graph.colocate_with(output), graph.control_dependencies(dependencies):
            if isinstance(output, IndexedSlices):
                return IndexedSlices(
                    raw.Identity(output.values, name=scope),
                    raw.Identity(output.indices),
                    output.dense_shape,
                )
            return raw.Identity(convert_to_tensor(output), name=scope)


@export("tuple")
def tuple(tensors: Sequence[Any], name: str | None = None, control_inputs: Any = None) -> list[Any]:
    """`tensors` with the same values, each available once all of them and `control_inputs` are done.

    tensors: tensors, IndexedSlices, operations, None. Raises ValueError: nothing but None. TypeError: a control input
    that is neither tensor nor operation.
    """
    with name_scope(name, "tuple", tensors):
        tensors = [
            t
            if t is None or isinstance(t, (Operation, Tensor, IndexedSlices))
            else convert_to_tensor(t)
            for t in tensors
        ]
        waited = [t if isinstance(t, Operation) else t.op for t in tensors if t is not None]
        for item in control_inputs or ():
            if isinstance(item, Tensor):
                item = item.op
            elif not isinstance(item, Operation):
                raise TypeError(f"Control input must be Operation or Tensor: {item}")
            waited.append(item)
        if not waited:
            raise ValueError(f"Must have at least one Tensor: {tensors}")
        gate = group(*sorted(set(waited), key=lambda op: op._id))
        gated: list[Any] = []
        for tensor in tensors:
            if isinstance(tensor, Operation):
                with default.get_default_graph().control_dependencies([gate]):
                    gated.append(group(tensor))
            else:
                gated.append(None if tensor is None else with_dependencies([gate], tensor))
        return gated
