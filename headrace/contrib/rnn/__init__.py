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
from headrace.contrib.rnn.convolutional import (
    Conv1DLSTMCell as Conv1DLSTMCell,
)
from headrace.contrib.rnn.convolutional import (
    Conv2DLSTMCell as Conv2DLSTMCell,
)
from headrace.contrib.rnn.convolutional import (
    Conv3DLSTMCell as Conv3DLSTMCell,
)
from headrace.contrib.rnn.convolutional import (
    ConvLSTMCell as ConvLSTMCell,
)
from headrace.contrib.rnn.frequency import (
    BidirectionalGridLSTMCell as BidirectionalGridLSTMCell,
)
from headrace.contrib.rnn.frequency import (
    GridLSTMCell as GridLSTMCell,
)
from headrace.contrib.rnn.frequency import (
    TimeFreqLSTMCell as TimeFreqLSTMCell,
)
from headrace.contrib.rnn.fused import (
    FusedRNNCell as FusedRNNCell,
)
from headrace.contrib.rnn.fused import (
    FusedRNNCellAdaptor as FusedRNNCellAdaptor,
)
from headrace.contrib.rnn.fused import (
    LSTMBlockFusedCell as LSTMBlockFusedCell,
)
from headrace.contrib.rnn.fused import (
    LSTMBlockWrapper as LSTMBlockWrapper,
)
from headrace.contrib.rnn.fused import (
    TimeReversedFusedRNN as TimeReversedFusedRNN,
)
from headrace.contrib.rnn.independent import (
    IndRNNCell as IndRNNCell,
)
from headrace.contrib.rnn.independent import (
    IndyGRUCell as IndyGRUCell,
)
from headrace.contrib.rnn.independent import (
    IndyLSTMCell as IndyLSTMCell,
)
from headrace.contrib.rnn.independent import (
    IntersectionRNNCell as IntersectionRNNCell,
)
from headrace.contrib.rnn.independent import (
    SRUCell as SRUCell,
)
from headrace.contrib.rnn.independent import (
    UGRNNCell as UGRNNCell,
)
from headrace.contrib.rnn.lstm_variants import (
    CoupledInputForgetGateLSTMCell as CoupledInputForgetGateLSTMCell,
)
from headrace.contrib.rnn.lstm_variants import (
    GLSTMCell as GLSTMCell,
)
from headrace.contrib.rnn.lstm_variants import (
    NASCell as NASCell,
)
from headrace.contrib.rnn.lstm_variants import (
    PhasedLSTMCell as PhasedLSTMCell,
)
from headrace.contrib.rnn.stacked import (
    stack_bidirectional_dynamic_rnn as stack_bidirectional_dynamic_rnn,
)
from headrace.contrib.rnn.stacked import (
    stack_bidirectional_rnn as stack_bidirectional_rnn,
)
from headrace.contrib.rnn.wrappers import (
    AttentionCellWrapper as AttentionCellWrapper,
)
from headrace.contrib.rnn.wrappers import (
    CompiledWrapper as CompiledWrapper,
)
from headrace.contrib.rnn.wrappers import (
    HighwayWrapper as HighwayWrapper,
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
    LSTMCell as LSTMCell,
)
from headrace.layers.rnn_cell import (
    LSTMStateTuple as LSTMStateTuple,
)
from headrace.layers.rnn_cell import (
    MultiRNNCell as MultiRNNCell,
)
from headrace.layers.rnn_cell_base import LayerRNNCell as LayerRNNCell
from headrace.layers.rnn_cell_base import RNNCell as RNNCell
from headrace.layers.rnn_cell_wrappers import (
    DeviceWrapper as DeviceWrapper,
)
from headrace.layers.rnn_cell_wrappers import (
    DropoutWrapper as DropoutWrapper,
)
from headrace.layers.rnn_cell_wrappers import (
    ResidualWrapper as ResidualWrapper,
)
from headrace.layers.rnn_step import best_effort_batch_size as best_effort_input_batch_size
from headrace.layers.rnn_step import swap_batch_and_time as transpose_batch_time
from headrace.layers.static_rnn import static_bidirectional_rnn as static_bidirectional_rnn
from headrace.layers.static_rnn import static_rnn as static_rnn
from headrace.layers.static_rnn import static_state_saving_rnn as static_state_saving_rnn
