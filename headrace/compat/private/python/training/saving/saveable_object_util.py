"""`tensorflow.python.training.saving.saveable_object_util`: from variables to what a Saver saves."""

from headrace.train.saveable_object import (
    ReferenceVariableSaveable,
    ResourceVariableSaveable,
    op_list_to_dict,
    saveable_objects_for_op,
    set_cpu0,
    validate_and_slice_inputs,
)

__all__ = [
    "ReferenceVariableSaveable",
    "ResourceVariableSaveable",
    "op_list_to_dict",
    "saveable_objects_for_op",
    "set_cpu0",
    "validate_and_slice_inputs",
]
