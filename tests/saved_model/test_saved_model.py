"""SavedModels: written, read back in another graph, and what is refused."""

import os

import numpy as np
import pytest

import headrace as tf


def build(folder, as_text=False):
    """A model y = relu(x w), with an asset whose content a constant names; returns its directory."""
    asset = folder / "words.txt"
    asset.write_text("one two")
    export = folder / "model"
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None, 2], name="x")
        w = tf.Variable([[1.0], [-2.0]], name="w")
        y = tf.nn.relu(tf.matmul(x, w), name="y")
        path = tf.constant(str(asset), name="path")
        tf.add_to_collection(tf.GraphKeys.ASSET_FILEPATHS, path)
        content = tf.Variable(
            "", trainable=False, name="content", collections=[tf.GraphKeys.LOCAL_VARIABLES]
        )
        main = tf.assign(content, tf.read_file(path)).op
        tf.identity(content, name="what")
        sess.run(tf.global_variables_initializer())
        builder = tf.saved_model.builder.SavedModelBuilder(str(export))
        signature = tf.saved_model.signature_def_utils.predict_signature_def({"x": x}, {"y": y})
        builder.add_meta_graph_and_variables(
            sess,
            [tf.saved_model.tag_constants.SERVING],
            {"serving_default": signature},
            assets_collection=tf.get_collection(tf.GraphKeys.ASSET_FILEPATHS),
            main_op=main,
        )
        builder.add_meta_graph(["other"])
        with pytest.raises(AssertionError, match="already been saved"):
            builder.add_meta_graph_and_variables(sess, ["again"])
        assert os.path.exists(builder.save(as_text).decode())
    asset.write_text("changed since")
    return str(export)


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("scope", [None, "imported"])
def test_loads_with_variables_and_assets(tmp_path, as_text, scope):
    export = build(tmp_path, as_text)
    assert tf.saved_model.contains_saved_model(export)
    prefix = f"{scope}/" if scope else ""
    with tf.Graph().as_default(), tf.Session() as sess:
        meta = tf.saved_model.loader.load(sess, ["serve"], export, import_scope=scope)
        signature = meta.signature_def["serving_default"]
        assert tf.saved_model.is_valid_signature(signature)
        y = tf.saved_model.get_tensor_from_tensor_info(signature.outputs["y"], import_scope=scope)
        out = sess.run(y, {prefix + signature.inputs["x"].name: [[3.0, 1.0]]})
        np.testing.assert_allclose(out, [[1.0]])
        assert sess.run(prefix + "what:0") == b"one two", "the asset is the copy that was saved"


def test_what_is_refused(tmp_path):
    export = build(tmp_path)
    with tf.Graph().as_default(), tf.Session() as sess:
        with pytest.raises(RuntimeError, match="tags"):
            tf.saved_model.load(sess, ["gpu"], export)
        with pytest.raises(OSError, match="does not exist"):
            tf.saved_model.load(sess, ["serve"], str(tmp_path / "nowhere"))
        with open(os.path.join(export, "saved_model.pb"), "r+b") as file:
            file.truncate(100)
        with pytest.raises(OSError, match="Cannot parse"):
            tf.saved_model.load(sess, ["serve"], export)
        with pytest.raises(AssertionError, match="isn't empty"):
            tf.saved_model.Builder(export)
        with pytest.raises(AssertionError, match="not been saved yet"):
            tf.saved_model.Builder(str(tmp_path / "new")).add_meta_graph(["serve"])


def test_simple_save(tmp_path):
    export = str(tmp_path / "simple")
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [2])
        y = x * tf.Variable(3.0, use_resource=True)
        sess.run(tf.global_variables_initializer())
        tf.saved_model.simple_save(sess, export, {"x": x}, {"y": y})
    with tf.Graph().as_default(), tf.Session() as sess:
        meta = tf.saved_model.load(sess, {"serve"}, export)
        info = meta.signature_def["serving_default"]
        assert sess.run(info.outputs["y"].name, {info.inputs["x"].name: [1.0, 2.0]}).tolist() == [
            3.0,
            6.0,
        ]
