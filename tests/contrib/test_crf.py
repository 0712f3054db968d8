"""tf.contrib.crf against TensorFlow 1.15 (programs of seq2seq_programs.py) and against all sequences of tags."""

import itertools

import numpy as np
import pytest

import headrace as tf
from tests.contrib.seq2seq_programs import LOGITS, PROGRAMS, TRANSITIONS
from tests.contrib.test_seq2seq import check


@pytest.mark.parametrize("key", [k for k in PROGRAMS if k.startswith("crf")])
def test_program(key):
    check(key)


def test_against_all_sequences():
    scores = LOGITS[0, :3]
    sequences = list(itertools.product(range(6), repeat=3))
    totals = [
        scores[range(3), s].sum() + TRANSITIONS[s[0], s[1]] + TRANSITIONS[s[1], s[2]]
        for s in map(list, sequences)
    ]
    best = sequences[int(np.argmax(totals))]
    tags, score = tf.contrib.crf.viterbi_decode(scores, TRANSITIONS)
    assert tuple(tags) == best
    assert score == pytest.approx(max(totals), rel=1e-6)
    with tf.Graph().as_default(), tf.Session() as sess:
        inputs, lengths = tf.constant(scores[None]), tf.constant([3])
        norm = tf.contrib.crf.crf_log_norm(inputs, lengths, TRANSITIONS)
        decoded, decoded_score = tf.contrib.crf.crf_decode(inputs, TRANSITIONS, lengths)
        one = tf.contrib.crf.crf_sequence_score(inputs, tf.constant([best]), lengths, TRANSITIONS)
        norm, decoded, decoded_score, one = sess.run([norm, decoded, decoded_score, one])
        assert norm[0] == pytest.approx(np.log(np.exp(np.float64(totals)).sum()), rel=1e-5)
        assert decoded.tolist() == [list(best)]
        assert decoded_score[0] == pytest.approx(max(totals), rel=1e-6) == one[0]
