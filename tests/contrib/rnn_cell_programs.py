"""The cells of tf.contrib.rnn, whose values and gradients are compared with TensorFlow's: `tf` is either of the two.

This file also runs under Python 3.7. The programs are as those of tests/api/rnn_programs.py, which evaluates them.
"""

PROGRAMS = {}
UNITS = 4


def _define(name):
    def file(function):
        PROGRAMS[name] = function
        return function

    return file


def _cells(tf):
    rnn = tf.contrib.rnn
    core = tf.nn.rnn_cell
    grid = dict(feature_size=2, frequency_skip=1, num_frequency_blocks=[3])
    blocks = dict(
        feature_size=2,
        frequency_skip=1,
        num_frequency_blocks=[2, 1],
        start_freqindex_list=[0, 2],
        end_freqindex_list=[3, 4],
    )
    return {
        "coupled": lambda: rnn.CoupledInputForgetGateLSTMCell(UNITS),
        "coupled_all": lambda: rnn.CoupledInputForgetGateLSTMCell(
            UNITS, True, None, 3, 0.1, 3, 2, 0.5, False, layer_norm=True, norm_gain=0.9
        ),
        "groups": lambda: rnn.GLSTMCell(UNITS, number_of_groups=2),
        "groups_projected": lambda: rnn.GLSTMCell(6, num_proj=4, number_of_groups=2),
        "nas": lambda: rnn.NASCell(UNITS),
        "nas_all": lambda: rnn.NASCell(UNITS, num_proj=3, use_bias=True),
        "sru": lambda: rnn.SRUCell(UNITS),
        "ind": lambda: rnn.IndRNNCell(UNITS),
        "indy_gru": lambda: rnn.IndyGRUCell(UNITS),
        "indy_lstm": lambda: rnn.IndyLSTMCell(UNITS, forget_bias=0.3),
        "ugrnn": lambda: rnn.UGRNNCell(UNITS),
        "intersection": lambda: rnn.IntersectionRNNCell(UNITS),
        "intersection_projected": lambda: rnn.IntersectionRNNCell(3, num_in_proj=3),
        "attention": lambda: rnn.AttentionCellWrapper(core.GRUCell(3), 2),
        "attention_all": lambda: rnn.AttentionCellWrapper(core.BasicLSTMCell(3), 3, 5, 2, 6),
        "attention_joined": lambda: rnn.AttentionCellWrapper(
            core.GRUCell(3), 2, state_is_tuple=False
        ),
        "highway": lambda: rnn.HighwayWrapper(core.GRUCell(4)),
        "highway_apart": lambda: rnn.HighwayWrapper(core.BasicRNNCell(4), False, 0.5),
        "compiled": lambda: rnn.CompiledWrapper(core.GRUCell(3)),
        "grid": lambda: rnn.GridLSTMCell(2, **grid),
        "grid_peepholes": lambda: rnn.GridLSTMCell(2, True, cell_clip=0.2, **blocks),
        "grid_shared": lambda: rnn.GridLSTMCell(
            2, True, True, couple_input_forget_gates=True, num_unit_shards=2, **grid
        ),
        "grid_joined": lambda: rnn.GridLSTMCell(2, state_is_tuple=False, **grid),
        "grid_both": lambda: rnn.BidirectionalGridLSTMCell(
            2, True, couple_input_forget_gates=True, **blocks
        ),
        "grid_both_offset": lambda: rnn.BidirectionalGridLSTMCell(
            2, backward_slice_offset=1, **grid
        ),
    }


CELLS = (
    "coupled coupled_all groups groups_projected nas nas_all sru ind indy_gru indy_lstm ugrnn intersection "
    "intersection_projected attention attention_all attention_joined highway highway_apart compiled grid grid_peepholes "
    "grid_shared grid_joined grid_both grid_both_offset"
).split()
for _cell in CELLS:

    @_define("cells/" + _cell)
    def _dynamic(tf, x, lengths, cell=_cell):
        return tf.nn.dynamic_rnn(_cells(tf)[cell](), x, lengths, dtype=tf.float32)


@_define("cells/time_frequency")
def _time_frequency(tf, x, lengths):
    # Its sizes are those of one band: only a program's own state fits.
    cell = tf.contrib.rnn.TimeFreqLSTMCell(2, True, 0.4, feature_size=2, num_unit_shards=2)
    state = tf.zeros([3, 12])
    outputs = []
    for i in range(2):
        with tf.variable_scope("steps", reuse=i > 0):
            output, state = cell(x[:, i], state)
        outputs.append(output)
    return outputs, state


@_define("cells/phased")
def _phased(tf, x, lengths):
    times = tf.cumsum(tf.ones_like(x[:, :, :1]), 1)
    for peepholes in (False, True):
        cell = tf.contrib.rnn.PhasedLSTMCell(3, peepholes, ratio_on=0.3)
        with tf.variable_scope("peepholes" if peepholes else "none"):
            outputs, state = tf.nn.dynamic_rnn(cell, (times, x), lengths, dtype=tf.float32)
    return outputs, state


for _rank, _sizes in ((1, [4]), (2, [2, 2]), (3, [2, 1, 2])):

    @_define(f"cells/convolutional_{_rank}")
    def _convolutional(tf, x, lengths, rank=_rank, sizes=_sizes):
        make = getattr(tf.contrib.rnn, f"Conv{rank}DLSTMCell")
        cell = make(
            input_shape=sizes + [1],
            output_channels=2,
            kernel_shape=[2] * rank,
            use_bias=rank != 3,
        )
        images = tf.reshape(x, [3, -1] + sizes + [1])
        return tf.nn.dynamic_rnn(cell, images, lengths, dtype=tf.float32)


@_define("cells/convolutional_skip")
def _convolutional_skip(tf, x, lengths):
    cell = tf.contrib.rnn.ConvLSTMCell(1, [4, 1], 2, [3], skip_connection=True, name="mine")
    state = cell.zero_state(3, tf.float32)
    return cell(tf.reshape(x[:, 0], [3, 4, 1]), state)


@_define("fused/block")
def _block(tf, x, lengths):
    cell = tf.contrib.rnn.LSTMBlockFusedCell(UNITS, forget_bias=0.7)
    return cell(tf.transpose(x, [1, 0, 2]), dtype=tf.float32)


@_define("fused/block_all")
def _block_all(tf, x, lengths):
    cell = tf.contrib.rnn.LSTMBlockFusedCell(UNITS, cell_clip=0.2, use_peephole=True)
    first = (tf.ones([3, UNITS]) * 0.1, x[:, 0])
    return cell(tf.transpose(x, [1, 0, 2]), first, sequence_length=lengths)


@_define("fused/reversed")
def _reversed(tf, x, lengths):
    rnn = tf.contrib.rnn
    inner = rnn.FusedRNNCellAdaptor(tf.nn.rnn_cell.GRUCell(3), use_dynamic_rnn=True)
    turned = tf.transpose(x, [1, 0, 2])
    ones = rnn.TimeReversedFusedRNN(inner)(turned, dtype=tf.float32, sequence_length=lengths)
    steps = tf.unstack(turned[:3], 3)
    cell = rnn.FusedRNNCellAdaptor(tf.nn.rnn_cell.BasicRNNCell(2))
    return ones, rnn.TimeReversedFusedRNN(cell)(steps, dtype=tf.float32, scope="other")
