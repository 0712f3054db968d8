"""Checkpoints by hand, and variables that start from one."""

import numpy as np
import pytest

import headrace as tf


@pytest.fixture
def checkpoint(tmp_path):
    with tf.Graph().as_default(), tf.Session() as sess:
        with tf.variable_scope("old"):
            tf.get_variable("a", initializer=np.arange(6.0).reshape(3, 2))
            tf.get_variable("deep/b", initializer=np.float32(7))
        tf.get_variable("c", initializer=["x", "y"])
        sess.run(tf.global_variables_initializer())
        return tf.train.Saver().save(sess, str(tmp_path / "m"), global_step=3)


def test_reading(checkpoint, tmp_path):
    for where in (checkpoint, str(tmp_path), tmp_path):
        assert tf.train.list_variables(where) == [("c", [2]), ("old/a", [3, 2]), ("old/deep/b", [])]
        assert tf.train.load_variable(where, "old/deep/b:0") == 7
    reader = tf.train.load_checkpoint(checkpoint)
    assert reader.has_tensor("c") and not reader.has_tensor("d")
    assert reader.get_variable_to_dtype_map()["old/a"] == tf.float64
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="Couldn't find"):
        tf.train.load_checkpoint(tmp_path / "empty")
    with pytest.raises(tf.errors.NotFoundError):
        tf.train.NewCheckpointReader(str(tmp_path / "none"))


def test_iterating(checkpoint, tmp_path):
    found = tf.train.checkpoints_iterator(str(tmp_path), timeout=0)
    assert next(found) == checkpoint and list(found) == []
    asked = []
    answers = tf.train.checkpoints_iterator(
        str(tmp_path), timeout=0, timeout_fn=lambda: asked.append(1) or len(asked) > 1
    )
    assert list(answers) == [checkpoint] and len(asked) == 2


@pytest.mark.parametrize("use_resource", [False, True])
def test_initial_values(checkpoint, use_resource):
    def cut(name):
        return tf.get_variable(
            name,
            [3, 2],
            tf.float64,
            tf.zeros_initializer(),
            partitioner=tf.fixed_size_partitioner(2),
            use_resource=use_resource,
        )

    def whole(name, value):
        return tf.get_variable(name, initializer=value, use_resource=use_resource)

    with tf.variable_scope("new"):
        by_scope = [whole("a", np.zeros([3, 2])), whole("deep/b", np.float32(0))]
    by_object, by_name = whole("x", np.zeros([3, 2])), whole("y", np.float32(0))
    with tf.variable_scope("cut"):
        parts, named_parts = cut("p"), cut("q")
    tf.train.init_from_checkpoint(checkpoint, {"old/": "new/"})
    tf.train.init_from_checkpoint(checkpoint, {"old/a": by_object, "old/deep/b": "y"})
    tf.train.init_from_checkpoint(checkpoint, {"old/a": list(parts)})
    tf.train.init_from_checkpoint(checkpoint, {"old/a": "cut/q"})
    expected = np.arange(6.0).reshape(3, 2)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        assert np.array_equal(sess.run(by_scope[0]), expected) and sess.run(by_scope[1]) == 7
        assert np.array_equal(sess.run(by_object), expected) and sess.run(by_name) == 7
        for variables in (parts, named_parts):
            assert np.array_equal(np.concatenate([sess.run(v) for v in variables]), expected)
        assert by_object.initial_value.shape.as_list() == [3, 2]


def test_root_scopes(checkpoint):
    with tf.variable_scope("s"):
        c = tf.get_variable("c", initializer=["", ""])
    tf.train.init_from_checkpoint(checkpoint, {"/": "s/"})
    with tf.Session() as sess:
        sess.run(c.initializer)
        assert sess.run(c).tolist() == [b"x", b"y"]


def test_what_does_not_fit(checkpoint):
    a = tf.get_variable("a", initializer=np.zeros([2, 2]))
    with tf.variable_scope("s"):
        tf.get_variable("other", initializer=0.0)
    for assignment, message in (
        ({"nothing": a}, "Tensor nothing is not found"),
        ({"old/a": a}, r"Shape of variable a:0 \(\(2, 2\)\) doesn't match"),
        ({"old": "s/"}, "scope only"),
        ({"old/": "s/"}, r"old/other \(other in old/\) is not found"),
    ):
        with pytest.raises(ValueError, match=message):
            tf.train.init_from_checkpoint(checkpoint, assignment)


def test_state_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train").mkdir()
    tf.train.update_checkpoint_state(
        "train", "train/m-2", ["train/m-1", "train/m-2"], "names", [1.5, 2.5], 0.5
    )
    text = (tmp_path / "train" / "names").read_text()
    assert text.splitlines()[:2] == [
        'model_checkpoint_path: "m-2"',
        'all_model_checkpoint_paths: "m-1"',
    ]
    state = tf.train.get_checkpoint_state("train", "names")
    assert list(state.all_model_checkpoint_paths) == ["train/m-1", "train/m-2"]
    assert (
        list(state.all_model_checkpoint_timestamps) == [1.5, 2.5]
        and state.last_preserved_timestamp == 0.5
    )
    with pytest.raises(ValueError, match="timestamps"):
        tf.train.generate_checkpoint_state_proto("train", "train/m-2", None, [1.0, 2.0])
    with pytest.raises(RuntimeError, match="conflicts"):
        tf.train.update_checkpoint_state(str(tmp_path), str(tmp_path / "checkpoint"))
    assert tf.train.get_checkpoint_state("train") is None
    (tmp_path / "train" / "checkpoint").write_text("")
    with pytest.raises(ValueError, match="Invalid checkpoint state"):
        tf.train.get_checkpoint_state("train")
