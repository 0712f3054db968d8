"""`tf.layers` and recurrent networks: functions with variables, made once and called often.

What belongs here keeps variables between calls (layers, cells), or drives cells over sequences; functions without variables
are in the api.
"""

from headrace.layers import (
    base as base,
)
from headrace.layers import (
    core as core,
)
from headrace.layers import (
    input_spec as input_spec,
)
from headrace.layers import (
    rnn as rnn,
)
from headrace.layers import (
    rnn_cell as rnn_cell,
)
from headrace.layers import (
    rnn_cell_wrappers as rnn_cell_wrappers,
)
from headrace.layers import (
    static_rnn as static_rnn,
)
