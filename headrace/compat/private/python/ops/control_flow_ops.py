"""`tensorflow.python.ops.control_flow_ops`: control flow that has no public name."""

from headrace.api.control_flow_basic import with_dependencies as with_dependencies
from headrace.api.switch_merge import merge as merge
from headrace.api.switch_merge import ref_switch as ref_switch
from headrace.api.switch_merge import switch as switch
