"""The cells of tf.contrib.rnn against TensorFlow's answers; every name of it; what is refused."""

from pathlib import Path

import numpy as np
import pytest

import headrace as tf
from tests.api.rnn_programs import FEEDS, evaluate
from tests.contrib.rnn_cell_programs import PROGRAMS

with np.load(Path(__file__).parent.parent / "data" / "contrib_rnn_cells.npz") as _file:
    ANSWERS = dict(_file)


@pytest.mark.parametrize("key", PROGRAMS)
def test_program(key):
    """Names, values and gradients."""
    names, runs = evaluate(tf, PROGRAMS[key], FEEDS[:1])
    assert names == ANSWERS[f"{key}/names"].tolist()
    for number, arrays in enumerate(runs):
        assert f"{key}/{number}/{len(arrays)}" not in ANSWERS
        for i, array in enumerate(arrays):
            expected = ANSWERS[f"{key}/{number}/{i}"]
            assert array.dtype == expected.dtype
            np.testing.assert_allclose(
                array, expected, rtol=2e-4, atol=2e-5, err_msg=f"run {number}, output {i}"
            )


NAMES = """
AttentionCellWrapper BasicLSTMCell BasicRNNCell BidirectionalGridLSTMCell CompiledWrapper Conv1DLSTMCell Conv2DLSTMCell
Conv3DLSTMCell ConvLSTMCell CoupledInputForgetGateLSTMCell DeviceWrapper DropoutWrapper EmbeddingWrapper FusedRNNCell
FusedRNNCellAdaptor GLSTMCell GRUBlockCell GRUBlockCellV2 GRUCell GridLSTMCell HighwayWrapper IndRNNCell IndyGRUCell
IndyLSTMCell InputProjectionWrapper IntersectionRNNCell LSTMBlockCell LSTMBlockFusedCell LSTMBlockWrapper LSTMCell
LSTMStateTuple LayerNormBasicLSTMCell LayerRNNCell MultiRNNCell NASCell OutputProjectionWrapper PhasedLSTMCell RNNCell
ResidualWrapper SRUCell TimeFreqLSTMCell TimeReversedFusedRNN UGRNNCell best_effort_input_batch_size
stack_bidirectional_dynamic_rnn stack_bidirectional_rnn static_bidirectional_rnn static_rnn static_state_saving_rnn
transpose_batch_time
""".split()


def test_every_name_is_there():
    """Those that TensorFlow 1.15 documents."""
    assert not [name for name in NAMES if not hasattr(tf.contrib.rnn, name)]


def test_refusals():
    """Sizes that do not fit."""
    rnn = tf.contrib.rnn
    x = tf.ones([2, 5])
    gru = tf.nn.rnn_cell.GRUCell(3)
    for make, message in (
        (lambda: rnn.GLSTMCell(5, number_of_groups=2), "divisible"),
        (lambda: rnn.GLSTMCell(4, number_of_groups=2)(x, [x[:, :4]] * 2), "divisible"),
        (lambda: rnn.IntersectionRNNCell(3)(x, x[:, :3]), "input size == output size"),
        (lambda: rnn.AttentionCellWrapper(gru, 0), "greater than zero"),
        (lambda: rnn.GridLSTMCell(2), "num_frequency_blocks"),
        (lambda: rnn.ConvLSTMCell(2, [4, 1], 2, [3]), "Invalid input_shape"),
        (lambda: rnn.HighwayWrapper(gru)(x, x[:, :3]), "incompatible"),
        (lambda: rnn.LSTMBlockFusedCell(3)(tf.ones([2, 3, 4])), "initial_state or dtype"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
