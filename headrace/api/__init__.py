"""What `tf.` exposes: functions that compose operations. No kernels here, and nothing that knows sessions or devices.

Importing this room files the public names (see `api/export.py`); `headrace/__init__.py` hangs them into `tf`.
"""

import headrace.ops
from headrace.api import (
    array_ops as array_ops,
)
from headrace.api import (
    assert_shapes as assert_shapes,
)
from headrace.api import (
    candidate_sampling_ops as candidate_sampling_ops,
)
from headrace.api import (
    case as case,
)
from headrace.api import (
    check_ops as check_ops,
)
from headrace.api import (
    clip_ops as clip_ops,
)
from headrace.api import (
    compilations as compilations,
)
from headrace.api import (
    cond as cond,
)
from headrace.api import (
    confusion_matrix as confusion_matrix,
)
from headrace.api import (
    control_flow_basic as control_flow_basic,
)
from headrace.api import (
    control_flow_v2 as control_flow_v2,
)
from headrace.api import (
    custom_gradient as custom_gradient,
)
from headrace.api import (
    device_config as device_config,
)
from headrace.api import (
    diag_ops as diag_ops,
)
from headrace.api import (
    diagnostic as diagnostic,
)
from headrace.api import (
    embedding_ops as embedding_ops,
)
from headrace.api import (
    files as files,
)
from headrace.api import (
    flags as flags,
)
from headrace.api import (
    framework as framework,
)
from headrace.api import (
    function as function,
)
from headrace.api import (
    functional_ops as functional_ops,
)
from headrace.api import (
    gather_ops as gather_ops,
)
from headrace.api import (
    get_variable as get_variable,
)
from headrace.api import (
    gradient_checker as gradient_checker,
)
from headrace.api import (
    gradient_tape as gradient_tape,
)
from headrace.api import (
    gradients as gradients,
)
from headrace.api import (
    graph_util as graph_util,
)
from headrace.api import (
    init_ops as init_ops,
)
from headrace.api import (
    init_orthogonal as init_orthogonal,
)
from headrace.api import (
    join_ops as join_ops,
)
from headrace.api import (
    legacy_control_flow as legacy_control_flow,
)
from headrace.api import (
    linalg_ops as linalg_ops,
)
from headrace.api import (
    logging as logging,
)
from headrace.api import (
    mask_ops as mask_ops,
)
from headrace.api import (
    math_ops as math_ops,
)
from headrace.api import (
    matmul_ops as matmul_ops,
)
from headrace.api import (
    monotonic as monotonic,
)
from headrace.api import (
    nn_conv as nn_conv,
)
from headrace.api import (
    nn_convolution as nn_convolution,
)
from headrace.api import (
    nn_impl as nn_impl,
)
from headrace.api import (
    nn_ops as nn_ops,
)
from headrace.api import (
    nn_pool as nn_pool,
)
from headrace.api import (
    nn_sampled as nn_sampled,
)
from headrace.api import (
    nn_v2 as nn_v2,
)
from headrace.api import (
    norm_ops as norm_ops,
)
from headrace.api import (
    operators as operators,
)
from headrace.api import (
    partitioned_variables as partitioned_variables,
)
from headrace.api import (
    protos as protos,
)
from headrace.api import (
    random_ops as random_ops,
)
from headrace.api import (
    random_seed as random_seed,
)
from headrace.api import (
    raw_ops as raw_ops,
)
from headrace.api import (
    reduction as reduction,
)
from headrace.api import (
    segment_ops as segment_ops,
)
from headrace.api import (
    slicing as slicing,
)
from headrace.api import (
    sort_ops as sort_ops,
)
from headrace.api import (
    source as source,
)
from headrace.api import (
    space_ops as space_ops,
)
from headrace.api import (
    sparse_ops as sparse_ops,
)
from headrace.api import (
    sparse_structure as sparse_structure,
)
from headrace.api import (
    state_ops as state_ops,
)
from headrace.api import (
    template as template,
)
from headrace.api import (
    tensor_array as tensor_array,
)
from headrace.api import (
    tensor_array_spec as tensor_array_spec,
)
from headrace.api import (
    variable_arguments as variable_arguments,
)
from headrace.api import (
    variable_scope as variable_scope,
)
from headrace.api import (
    variables as variables,
)
from headrace.api import (
    version as version,
)
from headrace.api import (
    weights_broadcast as weights_broadcast,
)
from headrace.api import (
    while_loop as while_loop,
)
