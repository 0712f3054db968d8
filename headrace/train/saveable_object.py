"""What a Saver saves: variables, and other objects that say which tensors hold their state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from headrace.api.resource_variable import BaseResourceVariable
from headrace.api.variable_base import Variable
from headrace.core import dtypes
from headrace.core.device_spec import DeviceSpec
from headrace.distribute.variables import DistributedVariable, restored_everywhere
from headrace.graph import default, raw
from headrace.graph.convert import convert_to_tensor
from headrace.graph.handles import handle_dims
from headrace.graph.op_def import Effect
from headrace.graph.tensor import Tensor


class SaveSpec:
    """One tensor to save: under which name, and which slice of a larger tensor it is ("" for all of it)."""

    def __init__(
        self, tensor: Any, slice_spec: str, name: str, dtype: Any = None, device: str | None = None
    ) -> None:
        """tensor: a tensor, or a function that makes it while the nodes are made (dtype and device needed then)."""
        self._tensor = tensor
        self.slice_spec = slice_spec
        self.name = name
        if callable(tensor) and (dtype is None or device is None):
            raise AssertionError(
                "When passing a callable `tensor` to a SaveSpec, an explicit dtype and device must be provided."
            )
        self.dtype = dtype if callable(tensor) else tensor.dtype
        self.device = device if callable(tensor) else tensor.device

    @property
    def tensor(self) -> Any:
        """The tensor to save."""
        return self._tensor() if callable(self._tensor) else self._tensor


class SaveableObject:
    """Base class of what a Saver saves and restores.

    op: the object behind it. specs: the tensors to save, all on one device. name: its name in the checkpoint.
    """

    def __init__(self, op: Any, specs: list[SaveSpec], name: str) -> None:
        self.op = op
        self.specs = specs
        self.name = name

    @property
    def optional_restore(self) -> bool:
        """Whether a checkpoint without this object may be restored."""
        return False

    @property
    def device(self) -> str:
        """The device of the tensors."""
        return self.specs[0].device

    def restore(self, restored_tensors: list[Tensor], restored_shapes: list[Any] | None) -> Any:
        """Returns an operation that gives the object the state that was read.

        restored_tensors: one for each spec. restored_shapes: shapes to give them first, or None.
        """
        raise ValueError("Calling an abstract method.")


class ReferenceVariableSaveable(SaveableObject):
    """A variable behind a reference, or a slice."""

    def __init__(self, var: Any, slice_spec: str, name: str) -> None:
        super().__init__(var, [SaveSpec(var, slice_spec, name)], name)

    def restore(self, restored_tensors: list[Tensor], restored_shapes: list[Any] | None) -> Any:
        value = restored_tensors[0]
        if restored_shapes is not None:
            value = raw.Reshape(value, _sizes(restored_shapes[0]))
        reference = convert_to_tensor(self.op, as_ref=True)
        known = restored_shapes is None and reference.shape.is_fully_defined()
        return raw.Assign(reference, value, validate_shape=known)


class ResourceVariableSaveable(SaveableObject):
    """A resource variable, or a slice: the object, or the tensor that reads it."""

    def __init__(self, var: Any, slice_spec: str, name: str) -> None:
        self._var_device, self._var_shape = var.device, var.shape
        if isinstance(var, Tensor):
            self.handle_op = var.op.inputs[0]
            tensor: Any = var
        elif isinstance(var, BaseResourceVariable):
            self.handle_op = var.handle
            tensor = _reading(var)
        else:
            raise ValueError(
                f"Saveable is neither a resource variable nor a read operation. Got: {var!r}"
            )
        super().__init__(var, [SaveSpec(tensor, slice_spec, name, var.dtype, var.device)], name)

    def restore(self, restored_tensors: list[Tensor], restored_shapes: list[Any] | None) -> Any:
        value = restored_tensors[0]
        if restored_shapes is not None:
            value = raw.Reshape(value, _sizes(restored_shapes[0]))
        with default.get_default_graph().device(self._var_device):
            return raw.AssignVariableOp(self.handle_op, raw.Identity(value))


class DistributedSaveable(SaveableObject):
    """A variable with copies on several devices: saved as one value, restored into all of them."""

    def __init__(self, var: DistributedVariable, name: str) -> None:
        self._variable = var
        spec = SaveSpec(_reading_all(var), "", name, var.dtype, var.primary.device)
        super().__init__(var, [spec], name)

    def restore(self, restored_tensors: list[Tensor], restored_shapes: list[Any] | None) -> Any:
        value = restored_tensors[0]
        if restored_shapes is not None:
            value = raw.Reshape(value, _sizes(restored_shapes[0]))
        return restored_everywhere(self._variable, value)


def _reading_all(var: DistributedVariable) -> Callable[[], Tensor]:
    def read() -> Tensor:
        strategy = var.distribute_strategy
        with strategy.scope(), default.get_default_graph().device(var.primary.device):
            return strategy.extended.read_var(var)

    return read


def _reading(var: Any) -> Callable[[], Tensor]:
    def read() -> Tensor:
        graph = default.get_default_graph()
        with graph.device(var.device):
            value = var.read_value()
            with graph.device("/device:CPU:0"):
                return raw.Identity(value)

    return read


def _sizes(shape: Any) -> Any:
    return shape if isinstance(shape, Tensor) else shape.as_list()


def set_cpu0(device: str | None) -> str:
    """The CPU beside a device."""
    return (
        DeviceSpec.from_string(device or "").replace(device_type="CPU", device_index=0).to_string()
    )


# ---- from what programs pass to saveable objects


def is_reference(tensor: Any) -> bool:
    """Whether a tensor is the reference that a variable's node gives out."""
    return isinstance(tensor, Tensor) and bool(
        tensor.dtype.is_ref_dtype and tensor.op.definition.effects & Effect.HANDLE
    )


def _is_reading(tensor: Any) -> bool:
    """Whether a tensor is a resource variable's value, just read."""
    return (
        isinstance(tensor, Tensor)
        and bool(tensor.op.inputs)
        and tensor.op.inputs[0].dtype is dtypes.resource
        and handle_dims(tensor.op.inputs[0]) is not None
    )


def _is_partitioned(value: Any) -> bool:
    return hasattr(value, "_get_variable_list")


def _is_trackable(value: Any) -> bool:
    return hasattr(value, "_gather_saveables_for_checkpoint") and not isinstance(value, Variable)


def _variable_tensor(value: Any, message: str) -> Tensor:
    """The tensor that stands for a variable. Raises TypeError: not a variable."""
    if isinstance(value, BaseResourceVariable):
        return value._graph_element
    tensor = convert_to_tensor(value, as_ref=True)
    if not is_reference(tensor) and not _is_reading(tensor):
        raise TypeError(f"{message}: {tensor}")
    return tensor


def saveable_objects_for_op(op: Any, name: str) -> Iterator[SaveableObject]:
    """The saveable objects of a variable, of slices of one, of a SaveableObject, or of an object that knows its own.

    Raises TypeError: the name is no string, or `op` is no variable. ValueError: slices of several variables.
    """
    if not isinstance(name, str):
        raise TypeError(
            "names_to_saveables must be a dict mapping string names to trackable operations. "
            f"Name is not a string: {name}"
        )
    if isinstance(op, SaveableObject):
        yield op
    elif isinstance(op, DistributedVariable):
        yield DistributedSaveable(op, name)
    elif isinstance(op, (list, tuple)) or _is_partitioned(op):
        yield from _slices(op if isinstance(op, (list, tuple)) else op._get_variable_list(), name)
    elif _is_trackable(op):
        for attribute, factory in op._gather_saveables_for_checkpoint().items():
            full_name = name if attribute == "VARIABLE_VALUE" else f"{name}_{attribute}"
            inner = factory(full_name) if callable(factory) else factory
            yield from saveable_objects_for_op(inner, inner.name)
    else:
        message = "names_to_saveables must be a dict mapping string names to Tensors/Variables. Not a variable"
        tensor = _variable_tensor(op, message)
        kind = ReferenceVariableSaveable if is_reference(tensor) else ResourceVariableSaveable
        yield kind(tensor, "", name)


def _slices(variables: Any, name: str) -> Iterator[SaveableObject]:
    full_name = None
    for variable in variables:
        if not isinstance(variable, Variable):
            raise ValueError(f"Slices must all be Variables: {variable}")
        info = variable._save_slice_info
        if info is None:
            raise ValueError(f"Slices must all be slices: {variable}")
        if full_name is None:
            full_name = info.full_name
        elif full_name != info.full_name:
            raise ValueError(
                f"Slices must all be from the same tensor: {full_name} != {info.full_name}"
            )
        if isinstance(variable, BaseResourceVariable):
            yield ResourceVariableSaveable(variable, info.spec, name)
        else:
            yield ReferenceVariableSaveable(variable, info.spec, name)


def op_list_to_dict(op_list: Any, convert_variable_to_tensor: bool = True) -> dict[str, Any]:
    """Variables and other saveable objects by the name that each has in a checkpoint; slices of one variable as a list.

    Raises TypeError: not a list, or not of variables. ValueError: two under one name.
    """
    if not isinstance(op_list, (list, tuple, set)):
        raise TypeError(f"Variables to save should be passed in a dict or a list: {op_list}")
    found: dict[str, Any] = {}

    def add(name: str, value: Any) -> None:
        if name in found:
            raise ValueError(f"At least two variables have the same name: {name}")
        found[name] = value

    for var in sorted(op_list, key=lambda v: v.name):
        if isinstance(var, SaveableObject):
            found[var.name] = var
        elif _is_partitioned(var):
            add(var.name, var)
        elif isinstance(var, Variable) and var._save_slice_info is not None:
            slices = found.setdefault(var._save_slice_info.full_name, [])
            if not isinstance(slices, list):
                raise ValueError(
                    f"Mixing slices and non-slices with the same name: {var._save_slice_info.full_name}"
                )
            slices.append(var)
        elif isinstance(var, DistributedVariable):
            add(var.op.name, var)
        elif _is_trackable(var):
            factories = var._gather_saveables_for_checkpoint().values()
            found.update(op_list_to_dict([f() if callable(f) else f for f in factories]))
        else:
            tensor = _variable_tensor(var, "Variable to save is not a Variable")
            name = tensor.op.name if is_reference(tensor) else tensor.op.inputs[0].op.name
            add(name, tensor if convert_variable_to_tensor else var)
    return found


def validate_and_slice_inputs(names_to_saveables: Any) -> list[SaveableObject]:
    """The saveable objects of a dictionary or list of variables, in the order of their names.

    Raises TypeError, ValueError: as above; an object under two names.
    """
    if not isinstance(names_to_saveables, dict):
        names_to_saveables = op_list_to_dict(names_to_saveables)
    saveables: list[SaveableObject] = []
    seen: dict[int, Any] = {}
    for name in names_to_saveables:
        if not isinstance(name, str):
            raise TypeError(
                "names_to_saveables must be a dict mapping string names to trackable operations. "
                f"Name is not a string: {name}"
            )
    for name, op in sorted(names_to_saveables.items(), key=lambda item: item[0]):
        for saveable in saveable_objects_for_op(op, name):
            if id(saveable.op) in seen:
                raise ValueError(
                    f"The same saveable will be restored with two names: {saveable.name}"
                )
            seen[id(saveable.op)] = saveable.op
            saveables.append(saveable)
    return saveables
