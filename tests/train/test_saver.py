"""`tf.train.Saver`: what it saves under which names, what it keeps, and what it says when a checkpoint does not fit."""

import os
import threading

import numpy as np
import pytest

import headrace as tf


def variable(name, value, **kwargs):
    return tf.get_variable(name, initializer=np.asarray(value), **kwargs)


@pytest.fixture
def sess():
    with tf.Session() as session:
        yield session


def initialised(sess):
    sess.run(tf.global_variables_initializer())


# ---- names, shapes, dictionaries


def test_dictionary_renames_and_restores_without_initialisation(sess, tmp_path):
    a, b = variable("a", np.float32(1)), variable("b", [2.0, 3.0], use_resource=True)
    initialised(sess)
    path = tf.train.Saver({"x/a": a, "x/b": b}).save(sess, str(tmp_path / "m"))
    assert tf.train.list_variables(path) == [("x/a", []), ("x/b", [2])]
    with tf.Graph().as_default(), tf.Session() as other:
        c, d = variable("c", np.float32(0)), variable("d", [0.0, 0.0])
        tf.train.Saver({"x/a": c, "x/b": d}).restore(other, path)
        assert other.run(c) == 1 and other.run(d).tolist() == [2.0, 3.0]


def test_what_can_be_saved(sess):
    a = variable("a", 1)
    with pytest.raises(ValueError, match="No variables to save"):
        tf.train.Saver([])
    with pytest.raises(ValueError, match="two names"):
        tf.train.Saver({"a": a, "b": a})
    with pytest.raises(ValueError, match="same name"):
        tf.train.Saver([a, a])
    with pytest.raises(TypeError, match="Not a variable"):
        tf.train.Saver({"a": tf.constant(1)})
    with pytest.raises(TypeError, match="dict or a list"):
        tf.train.Saver(a)
    with pytest.raises(TypeError, match="not a string"):
        tf.train.Saver({1: a})
    with pytest.raises(ValueError, match="defer"):
        tf.train.Saver([a], defer_build=True)
    empty = tf.Graph()
    with empty.as_default(), tf.Session() as other:
        tf.no_op()
        saver = tf.train.Saver(allow_empty=True)
        assert saver.save(other, "unused", write_meta_graph=False) is None
        saver.restore(other, "unused")


def test_reshape_and_partial_shapes(sess, tmp_path):
    variable("a", np.arange(6.0))
    initialised(sess)
    path = tf.train.Saver().save(sess, str(tmp_path / "m"))
    with tf.Graph().as_default(), tf.Session() as other:
        a = variable("a", np.zeros([2, 3]))
        tf.train.Saver(reshape=True).restore(other, path)
        assert other.run(a).tolist() == [[0, 1, 2], [3, 4, 5]]
    with tf.Graph().as_default(), tf.Session() as other:
        a = tf.Variable(
            tf.placeholder_with_default(np.zeros([1]), None), validate_shape=False, name="a"
        )
        tf.train.Saver().restore(other, path)
        assert other.run(a).tolist() == [0, 1, 2, 3, 4, 5]


def test_partitioned_variables(sess, tmp_path):
    """Saved as one, restored whole or cut otherwise."""
    full = np.arange(20.0).reshape(5, 4)

    def parts(name, cuts, value):
        starts = []

        def part(shape, dtype=None, partition_info=None):
            starts.append(partition_info.var_offset)
            rows = [5 // cuts + (i < 5 % cuts) for i in range(cuts)]
            first = starts[-1][0]
            return tf.constant(value[first : first + rows[len(starts) - 1]])

        partitioner = tf.fixed_size_partitioner(cuts)
        with tf.variable_scope("cut"):
            return tf.get_variable(name, [5, 4], tf.float64, part, partitioner=partitioner)

    parts("x", 2, full)
    initialised(sess)
    path = tf.train.Saver().save(sess, str(tmp_path / "m"))
    assert tf.train.list_variables(path) == [("cut/x", [5, 4])]
    assert np.array_equal(tf.train.load_variable(path, "cut/x"), full)
    with tf.Graph().as_default(), tf.Session() as other:
        three = parts("x", 3, np.zeros([5, 4]))
        whole = variable("whole", np.zeros([5, 4]))
        tf.train.Saver({"cut/x": three}).restore(other, path)
        tf.train.Saver({"cut/x": whole}).restore(other, path)
        assert np.array_equal(np.concatenate([other.run(v) for v in three]), full)
        assert np.array_equal(other.run(whole), full)


# ---- which files there are


def test_numbers_and_what_is_kept(sess, tmp_path):
    variable("a", 1)
    step = variable("step", np.int64(7), trainable=False)
    initialised(sess)
    prefix = str(tmp_path / "m")
    saver = tf.train.Saver(max_to_keep=2)
    paths = [saver.save(sess, prefix, global_step=n) for n in (1, 2, np.int32(3))]
    assert (
        paths == [prefix + "-1", prefix + "-2", prefix + "-3"]
        and saver.last_checkpoints == paths[1:]
    )
    assert (
        saver.save(sess, prefix, global_step=step)
        == saver.save(sess, prefix, "step:0")
        == prefix + "-7"
    )
    assert saver.last_checkpoints == [paths[2], prefix + "-7"]
    present = {p.name for p in tmp_path.iterdir()}
    endings = ("data-00000-of-00001", "index", "meta")
    assert present == {"checkpoint"} | {f"m-{n}.{e}" for n in (3, 7) for e in endings}
    state = tf.train.get_checkpoint_state(str(tmp_path))
    assert list(state.all_model_checkpoint_paths) == saver.last_checkpoints
    assert tf.train.latest_checkpoint(str(tmp_path)) == prefix + "-7"

    again = tf.train.Saver(max_to_keep=2)
    again.recover_last_checkpoints([prefix + "-1", *state.all_model_checkpoint_paths])
    assert again.last_checkpoints == saver.last_checkpoints
    again.save(sess, prefix, global_step=8)
    assert not tf.train.checkpoint_exists(prefix + "-3")
    assert len(tf.train.get_checkpoint_mtimes([prefix + "-3", prefix + "-7", prefix + "-8"])) == 2

    padded = tf.train.Saver(pad_step_number=True, max_to_keep=None)
    assert padded.save(sess, prefix, global_step=9, latest_filename="other") == prefix + "-00000009"
    assert padded.last_checkpoints == []
    assert tf.train.latest_checkpoint(str(tmp_path), "other") == prefix + "-00000009"
    assert tf.train.latest_checkpoint(str(tmp_path)) == prefix + "-8"
    os.remove(prefix + "-8.index")
    assert tf.train.latest_checkpoint(str(tmp_path)) is None
    (tmp_path / "checkpoint").write_text("no such field: 1")
    assert tf.train.latest_checkpoint(str(tmp_path)) is None


def test_some_are_kept_for_good(sess, tmp_path, monkeypatch):
    variable("a", 1)
    initialised(sess)
    now = [1000.0]
    monkeypatch.setattr("headrace.train.saver.time.time", lambda: now[0])
    saver = tf.train.Saver(max_to_keep=1, keep_checkpoint_every_n_hours=1)
    for n in range(5):
        saver.save(sess, str(tmp_path / "m"), global_step=n, write_meta_graph=False)
        now[0] += 1900
    left = sorted(p.name for p in tmp_path.glob("*.index"))
    assert left == ["m-2.index", "m-4.index"]


def test_paths(sess, tmp_path, monkeypatch):
    variable("a", 1)
    initialised(sess)
    saver = tf.train.Saver(save_relative_paths=True)
    path = saver.save(sess, str(tmp_path / "m"), global_step=1)
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in list(tmp_path.glob("m-1.*")) + [tmp_path / "checkpoint"]:
        file.rename(moved / file.name)
    assert tf.train.latest_checkpoint(str(moved)) == str(moved / "m-1")
    saver.restore(sess, moved / "m-1")
    with pytest.raises(ValueError, match="not a valid checkpoint"):
        saver.restore(sess, path)
    with pytest.raises(ValueError, match="None"):
        saver.restore(sess, None)
    monkeypatch.chdir(moved)
    assert saver.save(sess, "here") == "here" and tf.train.latest_checkpoint(".") == "./here"
    for bad, kwargs in (("checkpoint", {}), ("x", {"latest_filename": "a/b"})):
        with pytest.raises(ValueError, match="latest_filename"):
            saver.save(sess, bad, **kwargs)
    with pytest.raises(ValueError, match="Parent directory"):
        saver.save(sess, str(tmp_path / "no" / "such" / "m"))
    with pytest.raises(TypeError, match="Session"):
        saver.save("no session", "x")
    with pytest.raises(RuntimeError, match="build"):
        tf.train.Saver(defer_build=True).save(sess, "x")


# ---- what does not fit


def test_a_missing_variable_is_named_with_its_neighbours(sess, tmp_path):
    variable("layer/weights", [1.0])
    variable("layer/biases", [1.0])
    initialised(sess)
    path = tf.train.Saver().save(sess, str(tmp_path / "m"))
    for kwargs in ({}, {"write_version": tf.train.SaverDef.V1}):
        with tf.Graph().as_default(), tf.Session() as other:
            variable("layer/weight", [0.0])
            with pytest.raises(tf.errors.NotFoundError) as caught:
                tf.train.Saver(**kwargs).restore(other, path)
        text = str(caught.value)
        assert "Key layer/weight not found in checkpoint" in text and path in text
        assert "not asked for: layer/biases, layer/weights" in text
        assert "nearest to layer/weight: layer/weights" in text
        assert caught.value.op.type == "RestoreV2"


@pytest.mark.parametrize("use_resource", [False, True])
def test_another_shape_or_type(sess, tmp_path, use_resource):
    variable("a", np.zeros([3, 2], np.float32))
    initialised(sess)
    path = tf.train.Saver().save(sess, str(tmp_path / "m"))
    cases = (
        (np.zeros([2, 3], np.float32), ["lhs shape= [2, 3] rhs shape= [3, 2]", "Variable: a"]),
        (np.zeros([3, 2], np.int32), ["tensor_name = a; expected dtype int32", "float32"]),
    )
    for value, words in cases:
        with tf.Graph().as_default(), tf.Session() as other:
            variable("a", value, use_resource=use_resource)
            saver = tf.train.Saver()
            for _ in range(2):
                with pytest.raises(tf.errors.InvalidArgumentError) as caught:
                    saver.restore(other, path)
                for word in [*words, path]:
                    assert word in str(caught.value)


def test_damage(sess, tmp_path):
    a = variable("a", np.arange(100.0))
    initialised(sess)
    saver = tf.train.Saver()
    path = saver.save(sess, str(tmp_path / "m"))
    data = tmp_path / "m.data-00000-of-00001"
    content = data.read_bytes()
    for damaged in (content[:-1], content[:50] + b"\x55" + content[51:]):
        data.write_bytes(damaged)
        with pytest.raises(tf.errors.DataLossError, match=r"m\.data-00000-of-00001"):
            saver.restore(sess, path)
        assert np.array_equal(sess.run(a), np.arange(100.0))
    (tmp_path / "m.index").write_bytes(b"nothing")
    with pytest.raises(tf.errors.DataLossError):
        saver.restore(sess, path)


def test_a_failed_restore_changes_nothing(sess, tmp_path):
    a, b = variable("a", [1.0, 2.0]), variable("b", [1.0])
    initialised(sess)
    path = tf.train.Saver().save(sess, str(tmp_path / "m"))
    a.load([5.0, 6.0], sess)
    with pytest.raises(tf.errors.InvalidArgumentError):
        tf.train.Saver({"a": b, "b": a}).restore(sess, path)
    assert sess.run(a).tolist() == [5.0, 6.0] and sess.run(b).tolist() == [1.0]


def test_a_checkpoint_is_of_one_moment(sess, tmp_path):
    """Another thread trains while variables are saved."""
    variables = [variable(f"v{i}", np.zeros(50000, np.float32)) for i in range(4)]
    train = tf.group(*[v.assign_add(tf.ones([50000])) for v in variables])
    initialised(sess)
    saver = tf.train.Saver()
    done = threading.Event()

    def loop():
        while not done.is_set():
            sess.run(train)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        for n in range(6):
            path = saver.save(sess, str(tmp_path / "m"), global_step=n, write_meta_graph=False)
            reader = tf.train.NewCheckpointReader(path)
            values = np.stack([reader.get_tensor(f"v{i}") for i in range(4)])
            assert (values == values[0, 0]).all()
    finally:
        done.set()
        thread.join()


# ---- protos


def test_protos(sess, tmp_path):
    with tf.name_scope("outer"):
        a = variable("a", [1.0])
        saver = tf.train.Saver([a], max_to_keep=3, keep_checkpoint_every_n_hours=2.0)
    initialised(sess)
    proto = saver.to_proto()
    assert proto.save_tensor_name == "outer/save/control_dependency:0"
    assert proto.restore_op_name == "outer/save/restore_all" and proto.max_to_keep == 3
    inner = saver.to_proto(export_scope="outer")
    assert inner.save_tensor_name == "save/control_dependency:0"
    assert saver.to_proto(export_scope="elsewhere") is None
    again = tf.train.Saver.from_proto(inner, import_scope="outer")
    assert again.as_saver_def() == proto and inner.restore_op_name == "save/restore_all"
    path = again.save(sess, str(tmp_path / "m"))
    a.load([0.0], sess)
    tf.train.Saver(saver_def=proto).restore(sess, path)
    assert sess.run(a).tolist() == [1.0]
    with pytest.raises(ValueError, match="saver_def"):
        tf.train.Saver(saver_def="no proto")
    with pytest.raises(ValueError, match="save_tensor_name"):
        tf.train.Saver(saver_def=tf.train.SaverDef())
