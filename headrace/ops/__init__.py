"""Every op, one family per file, each op complete: signature, shape rule, lowering, host rule, gradient.

Importing this room fills the registry. Nothing here knows the public names, sessions or devices.
"""

from headrace.ops import (
    activation as activation,
)
from headrace.ops import (
    arithmetic as arithmetic,
)
from headrace.ops import (
    batch_norm as batch_norm,
)
from headrace.ops import (
    bias as bias,
)
from headrace.ops import (
    bitwise as bitwise,
)
from headrace.ops import (
    branches as branches,
)
from headrace.ops import (
    broadcasting as broadcasting,
)
from headrace.ops import (
    calls as calls,
)
from headrace.ops import (
    candidate_sampling as candidate_sampling,
)
from headrace.ops import (
    cast as cast,
)
from headrace.ops import (
    comparison as comparison,
)
from headrace.ops import (
    convolution as convolution,
)
from headrace.ops import (
    copies as copies,
)
from headrace.ops import (
    cudnn_rnn as cudnn_rnn,
)
from headrace.ops import (
    datasets as datasets,
)
from headrace.ops import (
    diagnostic as diagnostic,
)
from headrace.ops import (
    diagonal as diagonal,
)
from headrace.ops import (
    edit_distance as edit_distance,
)
from headrace.ops import (
    einsum as einsum,
)
from headrace.ops import (
    elementwise as elementwise,
)
from headrace.ops import (
    files as files,
)
from headrace.ops import (
    fractional_pooling as fractional_pooling,
)
from headrace.ops import (
    gamma as gamma,
)
from headrace.ops import (
    gather as gather,
)
from headrace.ops import (
    graph_test_ops as graph_test_ops,
)
from headrace.ops import (
    histogram as histogram,
)
from headrace.ops import (
    join as join,
)
from headrace.ops import (
    linalg as linalg,
)
from headrace.ops import (
    loops as loops,
)
from headrace.ops import (
    matmul as matmul,
)
from headrace.ops import (
    morphology as morphology,
)
from headrace.ops import (
    normalization as normalization,
)
from headrace.ops import (
    optional as optional,
)
from headrace.ops import (
    pad as pad,
)
from headrace.ops import (
    patches as patches,
)
from headrace.ops import (
    pooling as pooling,
)
from headrace.ops import (
    python_call as python_call,
)
from headrace.ops import (
    random_ops as random_ops,
)
from headrace.ops import (
    ranking as ranking,
)
from headrace.ops import (
    reduction as reduction,
)
from headrace.ops import (
    reshape as reshape,
)
from headrace.ops import (
    resource_variable as resource_variable,
)
from headrace.ops import (
    rows as rows,
)
from headrace.ops import (
    save_restore as save_restore,
)
from headrace.ops import (
    scatter as scatter,
)
from headrace.ops import (
    scatter_variable as scatter_variable,
)
from headrace.ops import (
    segment as segment,
)
from headrace.ops import (
    sequence as sequence,
)
from headrace.ops import (
    shape as shape,
)
from headrace.ops import (
    slice as slice,
)
from headrace.ops import (
    softmax as softmax,
)
from headrace.ops import (
    source as source,
)
from headrace.ops import (
    space_batch as space_batch,
)
from headrace.ops import (
    sparse as sparse,
)
from headrace.ops import (
    sparse_matmul as sparse_matmul,
)
from headrace.ops import (
    sparse_reduction as sparse_reduction,
)
from headrace.ops import (
    sparse_segment as sparse_segment,
)
from headrace.ops import (
    sparse_serialize as sparse_serialize,
)
from headrace.ops import (
    sparse_structure as sparse_structure,
)
from headrace.ops import (
    split as split,
)
from headrace.ops import (
    state as state,
)
from headrace.ops import (
    strided_slice as strided_slice,
)
from headrace.ops import (
    strings as strings,
)
from headrace.ops import (
    summary_ops as summary_ops,
)
from headrace.ops import (
    switch as switch,
)
from headrace.ops import (
    tensor_list as tensor_list,
)
from headrace.ops import (
    tensor_list_joins as tensor_list_joins,
)
from headrace.ops import (
    training as training,
)
