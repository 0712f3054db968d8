"""`tensorflow.python.ops.variables`: the classes of variables by their own names."""

from headrace.api.partitioned_variables import PartitionedVariable as PartitionedVariable
from headrace.api.ref_variable import RefVariable as RefVariable
from headrace.api.safe_initial_value import (
    safe_initial_value as _try_guard_against_uninitialized_dependencies,  # noqa: F401
)
from headrace.api.variable_base import Variable as Variable

VariableV1 = Variable
