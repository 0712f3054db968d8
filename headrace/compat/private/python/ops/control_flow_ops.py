"""`tensorflow.python.ops.control_flow_ops`: what orders operations and has no public name."""

from headrace.api.control_flow_basic import with_dependencies as with_dependencies
