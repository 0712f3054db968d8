"""`inspect_checkpoint`: prints what a checkpoint holds. On the command line: `headrace inspect-checkpoint`."""

import math
import re

from headrace.core import errors
from headrace.io.checkpoint_reader import CheckpointReader


def print_tensors_in_checkpoint_file(
    file_name, tensor_name, all_tensors, all_tensor_names=False, count_exclude_pattern=""
):
    """Prints one tensor, or the names of all, or all tensors; then the number of their elements.

    count_exclude_pattern: tensors whose names match do not count.
    A checkpoint that cannot be read is a printed line too, not an exception.
    """
    try:
        reader = CheckpointReader(file_name)
        shapes = reader.get_variable_to_shape_map()
        if all_tensors or all_tensor_names:
            for name in sorted(shapes):
                print("tensor_name: ", name)
                if all_tensors:
                    print(reader.get_tensor(name))
        elif not tensor_name:
            print(reader.debug_string().decode("utf-8"))
        else:
            print("tensor_name: ", tensor_name)
            print(reader.get_tensor(tensor_name))
    except errors.OpError as error:
        print(error)
        return
    counted = [
        math.prod(shape)
        for name, shape in shapes.items()
        if not (count_exclude_pattern and re.match(count_exclude_pattern, name))
    ]
    print(f"# Total number of params: {sum(counted)}")
