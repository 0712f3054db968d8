"""Saving at TensorFlow's private paths, as libraries import it."""

import pytest

import headrace
from headrace.compat.alias import remove_alias


@pytest.fixture
def alias():
    headrace.install_alias()
    yield
    remove_alias()


def test_private_paths(alias, tmp_path):
    import tensorflow as tf
    from tensorflow.python.framework import meta_graph, ops
    from tensorflow.python.training import checkpoint_management, saver
    from tensorflow.python.training.saving import saveable_object, saveable_object_util

    assert saver.Saver is tf.train.Saver and ops.Graph is tf.Graph
    assert checkpoint_management.latest_checkpoint is tf.train.latest_checkpoint
    assert saver.BaseSaverBuilder.SaveableObject is saveable_object.SaveableObject
    assert meta_graph.export_scoped_meta_graph()[1] == {}

    class Twice(saver.BaseSaverBuilder.SaveableObject):
        """A variable that is saved doubled."""

        def __init__(self, variable, name):
            spec = saver.BaseSaverBuilder.SaveSpec(variable * 2, "", name)
            super().__init__(variable, [spec], name)

        def restore(self, restored_tensors, restored_shapes):
            return tf.assign(self.op, restored_tensors[0] + 1)

    v = tf.Variable([1.0, 2.0], name="v")
    tf.add_to_collection(tf.GraphKeys.SAVEABLE_OBJECTS, Twice(v, "twice"))
    assert list(saveable_object_util.op_list_to_dict([v])) == ["v"]
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        both = tf.train.Saver({"twice": tf.get_collection(tf.GraphKeys.SAVEABLE_OBJECTS)[0]})
        path = both.save(sess, str(tmp_path / "m"))
        assert tf.train.load_variable(path, "twice").tolist() == [2.0, 4.0]
        both.restore(sess, path)
        assert sess.run(v).tolist() == [3.0, 5.0]
