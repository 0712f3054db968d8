"""`tensorflow.python.ops.resource_variable_ops`: resource variables by their own names."""

from headrace.api.resource_variable import BaseResourceVariable as BaseResourceVariable
from headrace.api.resource_variable import ResourceVariable as ResourceVariable
from headrace.api.resource_variable import is_resource_variable as is_resource_variable
