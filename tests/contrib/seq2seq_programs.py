"""Small programs over tf.contrib.seq2seq and tf.contrib.crf, which tests run and the oracle has run (make_seq2seq.py).

Each takes the module and gives a dictionary of what to fetch; variables start at values that follow from their names.
"""

import zlib

import numpy as np

RNG = np.random.RandomState(7)
INPUTS = RNG.randn(3, 4, 3).astype(np.float32)
MEMORY = RNG.randn(3, 5, 4).astype(np.float32)
TABLE = RNG.randn(6, 3).astype(np.float32)
LENGTHS = np.array([4, 2, 3], np.int32)
MEMORY_LENGTHS = np.array([5, 3, 1], np.int32)
TARGETS = RNG.randint(0, 6, (3, 4)).astype(np.int32)
WEIGHTS = (np.arange(4) < LENGTHS[:, None]).astype(np.float32)
LOGITS = RNG.randn(3, 4, 6).astype(np.float32)
TRANSITIONS = RNG.randn(6, 6).astype(np.float32)


def initial_value(name, shape):
    rng = np.random.RandomState(zlib.crc32(name.encode()) % 2**31)
    return np.float32(rng.randn(*shape) * 0.5)


def evaluate(tf, program):
    """(names of the variables, values) of a program."""
    with tf.Graph().as_default(), tf.Session() as sess:
        tf.set_random_seed(3)
        fetches = program(tf)
        variables = tf.global_variables()
        for v in variables:
            v.load(initial_value(v.op.name, v.shape.as_list()), sess)
        return sorted(v.op.name for v in variables), sess.run(fetches)


def fed(tf, value, unknown=()):
    """The value, in a placeholder that does not know the sizes of the axes `unknown`."""
    shape = [None if i in unknown else d for i, d in enumerate(value.shape)]
    return tf.placeholder_with_default(value, shape)


def decoded(decoder, tf, **options):
    outputs, state, lengths = tf.contrib.seq2seq.dynamic_decode(decoder, **options)
    return {"rnn": outputs.rnn_output, "ids": outputs.sample_id, "lengths": lengths}, state


def gradients(tf, loss):
    """Those of the variables that have one."""
    variables = tf.trainable_variables()
    found = zip(variables, tf.gradients(loss, variables))
    return {"grad " + v.op.name: g for v, g in found if g is not None}


def training(tf, impute, time_major=False):
    s = tf.contrib.seq2seq
    inputs = fed(tf, INPUTS.transpose(1, 0, 2) if time_major else INPUTS)
    helper = s.TrainingHelper(inputs, LENGTHS, time_major=time_major)
    cell = tf.nn.rnn_cell.LSTMCell(5)
    layer = tf.layers.Dense(6, name="out")
    decoder = s.BasicDecoder(cell, helper, cell.zero_state(3, tf.float32), layer)
    got, state = decoded(decoder, tf, impute_finished=impute, output_time_major=time_major)
    got["state"] = state.h
    if not time_major:
        loss = s.sequence_loss(got["rnn"], tf.constant(TARGETS), tf.constant(WEIGHTS))
        got.update(gradients(tf, loss), loss=loss)
    return got


def attention(tf, make, history=False, layer_size=4, lengths=MEMORY_LENGTHS, **options):
    s = tf.contrib.seq2seq
    mechanism = make(s, fed(tf, MEMORY, (1,)), lengths)
    cell = s.AttentionWrapper(
        tf.nn.rnn_cell.GRUCell(4),
        mechanism,
        attention_layer_size=layer_size,
        alignment_history=history,
        **options,
    )
    helper = s.TrainingHelper(fed(tf, INPUTS, (0, 1)), LENGTHS)
    decoder = s.BasicDecoder(cell, helper, cell.zero_state(3, tf.float32), tf.layers.Dense(6))
    got, state = decoded(decoder, tf)
    got["alignments"] = state.alignments
    if history:
        got["history"] = state.alignment_history.stack()
    loss = s.sequence_loss(got["rnn"], tf.constant(TARGETS), tf.constant(WEIGHTS))
    got.update(gradients(tf, loss))
    return got


def two_mechanisms(tf):
    def make(s, memory, lengths):
        return [
            s.LuongAttention(4, memory, lengths, scale=True),
            s.BahdanauAttention(4, memory, probability_fn=s.hardmax, name="second"),
        ]

    return attention(tf, make, layer_size=[2, 3], output_attention=False)


def inference(tf, make, limit=5):
    s = tf.contrib.seq2seq
    cell = tf.nn.rnn_cell.GRUCell(4)
    decoder = s.BasicDecoder(
        cell, make(s), cell.zero_state(3, tf.float32), tf.layers.Dense(6, name="out")
    )
    return decoded(decoder, tf, maximum_iterations=limit)[0]


def greedy_after_training(tf):
    s = tf.contrib.seq2seq
    cell = s.AttentionWrapper(tf.nn.rnn_cell.GRUCell(4), s.LuongAttention(4, MEMORY))
    layer = tf.layers.Dense(6, name="out")
    state = cell.zero_state(3, tf.float32)
    train = s.BasicDecoder(cell, s.TrainingHelper(INPUTS, LENGTHS), state, layer)
    infer = s.BasicDecoder(cell, s.GreedyEmbeddingHelper(TABLE, [0, 1, 2], 5), state, layer)
    with tf.variable_scope("model"):
        got, _ = decoded(train, tf, impute_finished=True)
    with tf.variable_scope("model", reuse=True):
        more, _ = decoded(infer, tf, maximum_iterations=4)
    got.update({"greedy " + k: v for k, v in more.items()})
    return got


def scheduled(tf, output):
    s = tf.contrib.seq2seq
    if output:
        helper = s.ScheduledOutputTrainingHelper(
            INPUTS, LENGTHS, 0.5, seed=4, auxiliary_inputs=INPUTS[:, :, :2]
        )
    else:
        helper = s.ScheduledEmbeddingTrainingHelper(
            INPUTS, LENGTHS, TABLE, 0.5, seed=4, scheduling_seed=5
        )
    cell = tf.nn.rnn_cell.GRUCell(3)
    layer = None if output else tf.layers.Dense(6, name="out")
    return decoded(s.BasicDecoder(cell, helper, cell.zero_state(3, tf.float32), layer), tf)[0]


def custom(tf):
    inputs = tf.constant(INPUTS)

    def next_inputs(time, outputs, state, sample_ids):
        return tf.fill([3], time >= 2), outputs[:, :3] * 0.5, state

    helper = tf.contrib.seq2seq.CustomHelper(
        initialize_fn=lambda: (tf.fill([3], False), inputs[:, 0]),
        sample_fn=lambda time, outputs, state: tf.argmax(outputs, -1, output_type=tf.int32),
        next_inputs_fn=next_inputs,
    )
    return inference(tf, lambda s: helper, None)


def repeated(tf):
    def make(s):
        return s.InferenceHelper(
            sample_fn=lambda outputs: outputs[:, :3],
            sample_shape=[3],
            sample_dtype=tf.float32,
            start_inputs=INPUTS[:, 0],
            end_fn=lambda ids: ids[:, 0] > 1.0,
        )

    return inference(tf, make, 3)


def beam(tf, attentive=False, **options):
    s = tf.contrib.seq2seq
    cell = tf.nn.rnn_cell.GRUCell(4)
    start = s.tile_batch(tf.constant(MEMORY[:, 0]), 3)
    if attentive:
        memory, lengths = s.tile_batch((fed(tf, MEMORY, (1,)), tf.constant(MEMORY_LENGTHS)), 3)
        cell = s.AttentionWrapper(
            cell, s.LuongAttention(4, memory, lengths), 4, alignment_history=True
        )
        start = cell.zero_state(9, tf.float32).clone(cell_state=start)
    decoder = s.BeamSearchDecoder(
        cell, TABLE, [0, 1, 2], 5, start, 3, tf.layers.Dense(6, name="out"), **options
    )
    outputs, state, lengths = s.dynamic_decode(decoder, maximum_iterations=6)
    got = {
        "ids": outputs.predicted_ids,
        "scores": outputs.beam_search_decoder_output.scores,
        "parents": outputs.beam_search_decoder_output.parent_ids,
        "lengths": lengths,
        "log_probs": state.log_probs,
        "beam lengths": state.lengths,
    }
    if attentive:
        got["history"] = state.cell_state.alignment_history
    return got


def losses(tf):
    loss = tf.contrib.seq2seq.sequence_loss
    args = [tf.constant(v) for v in (LOGITS, TARGETS, WEIGHTS)]
    kinds = [
        (1, 1, 0, 0),
        (1, 0, 0, 0),
        (0, 1, 0, 0),
        (0, 0, 1, 1),
        (0, 0, 1, 0),
        (0, 0, 0, 1),
        (0,) * 4,
    ]
    return {str(k): loss(*args, *map(bool, k)) for k in kinds}


def monotonic(tf):
    s = tf.contrib.seq2seq
    p = tf.constant(1 / (1 + np.exp(-LOGITS[:, 0])))
    before = tf.constant(np.eye(6, dtype=np.float32)[[0, 1, 2]])
    got = {m: s.monotonic_attention(p, before, m) for m in ("recursive", "parallel")}
    got["hard"] = s.monotonic_attention(tf.round(p), before, "hard")
    got["cumprod"] = s.safe_cumprod(p, axis=1, exclusive=True)
    got["hardmax"] = s.hardmax(p)
    return got


def crf(tf, steps, unknown=()):
    c = tf.contrib.crf
    inputs = fed(tf, LOGITS[:, :steps], unknown)
    tags = fed(tf, TARGETS[:, :steps], unknown)
    lengths = fed(tf, np.minimum(LENGTHS, steps) * np.array([1, 0, 1], np.int32))
    likelihood, params = c.crf_log_likelihood(inputs, tags, lengths)
    best, score = c.crf_decode(inputs, params, tf.maximum(lengths, 1))
    mask = tf.sequence_mask(tf.maximum(lengths, 1), tf.shape(best)[1], tf.int32)
    got = {
        "likelihood": likelihood,
        "gradients": tf.gradients(likelihood, [inputs, params] if steps > 1 else [inputs]),
        "tags": best * mask,
        "score": score,
        "unary": c.crf_unary_score(tags, lengths, inputs),
        "multi": c.crf_multitag_sequence_score(
            inputs, fed(tf, (LOGITS > -0.5)[:, :steps], unknown), tf.maximum(lengths, 1), params
        ),
    }
    if steps > 1:
        got["binary"] = c.crf_binary_score(tf.cast(tags, tf.int64), lengths, params)
    return got


PROGRAMS = {
    "training": lambda tf: training(tf, False),
    "training, imputed": lambda tf: training(tf, True),
    "training, time major": lambda tf: training(tf, True, time_major=True),
    "luong": lambda tf: attention(tf, lambda s, m, n: s.LuongAttention(4, m, n), history=True),
    "bahdanau": lambda tf: attention(
        tf, lambda s, m, n: s.BahdanauAttention(3, m, n, normalize=True)
    ),
    "two mechanisms": two_mechanisms,
    "luong monotonic": lambda tf: attention(
        tf, lambda s, m, n: s.LuongMonotonicAttention(4, m, n, scale=True, score_bias_init=0.5)
    ),
    "bahdanau monotonic": lambda tf: attention(
        tf, lambda s, m, n: s.BahdanauMonotonicAttention(4, m, n, mode="recursive"), layer_size=None
    ),
    "greedy": greedy_after_training,
    "sampled": lambda tf: inference(
        tf, lambda s: s.SampleEmbeddingHelper(TABLE, [0, 1, 2], 5, softmax_temperature=0.7, seed=2)
    ),
    "scheduled embedding": lambda tf: scheduled(tf, False),
    "custom": custom,
    "repeated": repeated,
    "beam": lambda tf: beam(tf, length_penalty_weight=0.6),
    "beam, attentive": lambda tf: beam(tf, attentive=True, coverage_penalty_weight=0.3),
    "losses": losses,
    "monotonic": monotonic,
    "crf": lambda tf: crf(tf, 4),
    "crf, unknown sizes": lambda tf: crf(tf, 4, (0, 1)),
    "crf, one step": lambda tf: crf(tf, 1),
}
