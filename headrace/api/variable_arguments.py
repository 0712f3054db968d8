"""What variables are made with: modes of distribution, collections, an initial value, a place in a larger variable."""

from __future__ import annotations

import enum
from typing import Any

from tensorboard.compat.proto import variable_pb2

from headrace.api.export import export
from headrace.graph.collection_protos import prepend_name_scope, strip_name_scope
from headrace.graph.tensor import Tensor


@export("VariableSynchronization")
class VariableSynchronization(enum.Enum):
    """When the copies of a distributed variable are brought together."""

    AUTO = 0
    NONE = 1
    ON_WRITE = 2
    ON_READ = 3


@export("VariableAggregation")
class VariableAggregation(enum.Enum):
    """How the copies of a distributed variable are brought together."""

    NONE = 0
    SUM = 1
    MEAN = 2
    ONLY_FIRST_REPLICA = 3
    ONLY_FIRST_TOWER = 3


def checked_modes(
    synchronization: Any, aggregation: Any, trainable: bool | None, name: str | None
) -> tuple[VariableSynchronization, VariableAggregation, bool]:
    """The modes with their defaults filled in. Raises ValueError: not a mode."""
    try:
        aggregation = (
            VariableAggregation.NONE if aggregation is None else VariableAggregation(aggregation)
        )
    except ValueError:
        raise ValueError(
            f"Invalid variable aggregation mode: {aggregation} for variable: {name}"
        ) from None
    try:
        synchronization = (
            VariableSynchronization.AUTO
            if synchronization is None
            else VariableSynchronization(synchronization)
        )
    except ValueError:
        raise ValueError(
            f"Invalid variable synchronization mode: {synchronization} for variable: {name}"
        ) from None
    if trainable is None:
        trainable = synchronization is not VariableSynchronization.ON_READ
    return synchronization, aggregation, trainable


def checked_collections(collections: Any, constraint: Any, trainable: bool) -> list[Any]:
    """The collections that a new variable goes into. Raises ValueError: not collections, or no constraint."""
    if collections is None:
        collections = ["variables"]
    if not isinstance(collections, (list, tuple, set)):
        raise ValueError(
            "collections argument to Variable constructor must be a list, tuple, or set. "
            f"Got {collections} of type {type(collections)}"
        )
    if constraint is not None and not callable(constraint):
        raise ValueError("The `constraint` argument must be a callable.")
    collections = list(collections)
    if trainable and "trainable_variables" not in collections:
        collections.append("trainable_variables")
    return collections


def refuse_inner_tensor(name: str | None, initial_value: Any) -> None:
    """Raises ValueError: the initial value lives in a loop, a branch or a function, where the initializer is not."""
    if not isinstance(initial_value, Tensor):
        return
    if initial_value.graph.building_function or initial_value.op._control_flow_context is not None:
        raise ValueError(
            f"Initializer for variable {name or 'Variable'} is from inside a control-flow construct, such as a loop or "
            "conditional. When creating a variable inside a loop or conditional, use a lambda as the initializer. "
            "Tensor-typed variable initializers must either be wrapped in an init_scope or callable when building "
            "functions."
        )


class SaveSliceInfo:
    """Which part of a larger variable this variable is: the whole's name and shape, the part's offset and shape."""

    def __init__(
        self,
        full_name: str | None = None,
        full_shape: Any = None,
        var_offset: Any = None,
        var_shape: Any = None,
        save_slice_info_def: Any = None,
        import_scope: str | None = None,
    ) -> None:
        if save_slice_info_def is not None:
            proto = save_slice_info_def
            full_name = prepend_name_scope(proto.full_name, import_scope)
            full_shape = list(proto.full_shape)
            var_offset = list(proto.var_offset)
            var_shape = list(proto.var_shape)
        self.full_name = full_name
        self.full_shape = full_shape
        self.var_offset = var_offset
        self.var_shape = var_shape

    @property
    def spec(self) -> str:
        """The part as checkpoints write it: `4 5 0,2:0,5`."""
        sizes = " ".join(str(size) for size in self.full_shape)
        parts = ":".join(f"{o},{s}" for o, s in zip(self.var_offset, self.var_shape, strict=True))
        return f"{sizes} {parts}"

    def to_proto(self, export_scope: str | None = None) -> Any:
        """A SaveSliceInfoDef; None where the name is outside `export_scope`."""
        if export_scope is not None and not self.full_name.startswith(export_scope):
            return None
        return variable_pb2.SaveSliceInfoDef(
            full_name=strip_name_scope(self.full_name, export_scope),
            full_shape=self.full_shape,
            var_offset=self.var_offset,
            var_shape=self.var_shape,
        )
