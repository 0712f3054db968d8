"""`tensorflow.python.ops.variable_scope`: what layers libraries took from behind `get_variable`."""

from headrace.api.get_variable import get_default_variable_store as _get_default_variable_store  # noqa: F401
from headrace.api.get_variable import get_variable_scope_store as get_variable_scope_store
from headrace.api.get_variable import with_variable_store as with_variable_store
from headrace.api.variable_base import Variable as variable  # noqa: F401
from headrace.api.variable_scope import pure_variable_scope as _pure_variable_scope  # noqa: F401
from headrace.api.variable_scope import unique_scope_name as _get_unique_variable_scope  # noqa: F401
from headrace.api.variable_store import VariableStore as _VariableStore  # noqa: F401
from headrace.api.variable_store import _PartitionInfo as _PartitionInfo
