"""`tf.contrib.rnn`: the cells and networks of `tf.nn` under their older names, and those that stayed in contrib."""

from headrace.contrib.rnn.cells import (
    EmbeddingWrapper as EmbeddingWrapper,
)
from headrace.contrib.rnn.cells import (
    GRUBlockCell as GRUBlockCell,
)
from headrace.contrib.rnn.cells import (
    GRUBlockCellV2 as GRUBlockCellV2,
)
from headrace.contrib.rnn.cells import (
    InputProjectionWrapper as InputProjectionWrapper,
)
from headrace.contrib.rnn.cells import (
    LayerNormBasicLSTMCell as LayerNormBasicLSTMCell,
)
from headrace.contrib.rnn.cells import (
    LSTMBlockCell as LSTMBlockCell,
)
from headrace.contrib.rnn.cells import (
    OutputProjectionWrapper as OutputProjectionWrapper,
)
from headrace.contrib.rnn.stacked import (
    stack_bidirectional_dynamic_rnn as stack_bidirectional_dynamic_rnn,
)
from headrace.contrib.rnn.stacked import (
    stack_bidirectional_rnn as stack_bidirectional_rnn,
)
from headrace.layers.rnn import (
    static_bidirectional_rnn as static_bidirectional_rnn,
)
from headrace.layers.rnn import (
    static_rnn as static_rnn,
)
from headrace.layers.rnn import (
    static_state_saving_rnn as static_state_saving_rnn,
)
from headrace.layers.rnn import (
    swap_batch_and_time as transpose_batch_time,
)
from headrace.layers.rnn_cell import (
    BasicLSTMCell as BasicLSTMCell,
)
from headrace.layers.rnn_cell import (
    BasicRNNCell as BasicRNNCell,
)
from headrace.layers.rnn_cell import (
    GRUCell as GRUCell,
)
from headrace.layers.rnn_cell import (
    LayerRNNCell as LayerRNNCell,
)
from headrace.layers.rnn_cell import (
    LSTMCell as LSTMCell,
)
from headrace.layers.rnn_cell import (
    LSTMStateTuple as LSTMStateTuple,
)
from headrace.layers.rnn_cell import (
    MultiRNNCell as MultiRNNCell,
)
from headrace.layers.rnn_cell import (
    RNNCell as RNNCell,
)
from headrace.layers.rnn_cell_wrappers import (
    DeviceWrapper as DeviceWrapper,
)
from headrace.layers.rnn_cell_wrappers import (
    DropoutWrapper as DropoutWrapper,
)
from headrace.layers.rnn_cell_wrappers import (
    ResidualWrapper as ResidualWrapper,
)
