"""Candidate samplers against TensorFlow 1.15 (tests/oracle/make_candidates.py)."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import headrace as tf
from headrace.lowering import candidates

sys.path.insert(0, str(Path(__file__).parent))
import candidate_cases as cases

ANSWERS = json.loads((Path(__file__).parents[1] / "data" / "candidates.json").read_text())


def test_samplers_draw_tensorflows_classes(tmp_path):
    vocabulary = tmp_path / "words.csv"
    vocabulary.write_text("".join(f"word{i},{1 + i % 5}\n" for i in range(18)))
    names = {"tf": tf, "TRUE": cases.TRUE, "VOCABULARY": str(vocabulary)}
    tensors = [eval(expression, names) for expression in cases.SAMPLERS]
    with tf.Session() as session:
        for run in range(2):
            for expression, outputs, answer in zip(
                cases.SAMPLERS, session.run(tensors), ANSWERS, strict=True
            ):
                classes, true_count, sampled_count = answer[run]
                assert outputs[0].tolist() == classes, expression
                assert outputs[1].shape == (4, 1) and outputs[1].dtype == np.float32
                np.testing.assert_allclose(outputs[1].reshape(-1), true_count, rtol=2e-6)
                np.testing.assert_allclose(outputs[2], sampled_count, rtol=2e-6)


def test_alias_table_drops_words_as_a_sequential_reader_does():
    """With three classes a word of 0 is never taken as an index, and the word before it waits for the next one."""
    table = candidates.AliasTable(np.array([1, 1, 1], np.float32))
    words = np.array([9, 0, 0, 1, 9, 2, 9, 0, 3, 9, 0], np.uint32)
    assert table.draw(words).tolist() == [1, 2, 0]


def test_accidental_hits():
    hits = tf.nn.compute_accidental_hits(
        tf.constant([[1, 2], [9, 5], [5, 1]], tf.int64), tf.constant([5, 7, 1, 5], tf.int64), 2
    )
    none = tf.nn.compute_accidental_hits(tf.constant([[3]], tf.int64), tf.constant([], tf.int64), 1)
    with tf.Session() as session:
        rows, places, weights = session.run(hits)
        assert [len(part) for part in session.run(none)] == [0, 0, 0]
    assert rows.tolist() == [0, 1, 2, 2] and rows.dtype == np.int32
    assert places.tolist() == [2, 3, 3, 2] and places.dtype == np.int64
    assert (weights == np.finfo(np.float32).min).all()


@pytest.mark.parametrize(
    "expression, words",
    [
        ("tf.nn.uniform_candidate_sampler(T, 1, 5, True, 4)", "range is too small"),
        (
            "tf.nn.fixed_unigram_candidate_sampler(T, 1, 5, True, 8)",
            "either vocab_file or unigrams",
        ),
        ("tf.nn.fixed_unigram_candidate_sampler(T, 1, 1, True, 8, unigrams=[1.0])", "1 weights"),
        ("tf.nn.learned_unigram_candidate_sampler(T, 1, 2, True, 8)", r"not in \[0, 8\)"),
    ],
)
def test_mistakes(expression, words):
    tensors = eval(expression, {"tf": tf, "T": tf.constant(cases.TRUE, tf.int64)})
    with tf.Session() as session, pytest.raises(tf.errors.InvalidArgumentError, match=words):
        session.run(tensors)
