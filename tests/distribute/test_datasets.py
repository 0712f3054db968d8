"""Strategies read from datasets: a batch is shared out, or each replica has batches of its own."""

import numpy as np
import pytest

import headrace as tf

DEVICES = ["/cpu:0", "/cpu:1"]


def session():
    return tf.Session(config=tf.ConfigProto(device_count={"CPU": 2}))


def strategy():
    return tf.distribute.MirroredStrategy(DEVICES)


def test_a_batch_is_shared_out():
    x = np.arange(10, dtype=np.float32)
    dataset = tf.data.Dataset.from_tensor_slices({"x": x, "y": 2 * x}).batch(4)
    mirrored = strategy()
    iterator = mirrored.make_dataset_iterator(dataset)
    assert iterator.output_shapes["x"].as_list() == [None]
    assert iterator.output_types == {"x": tf.float32, "y": tf.float32}
    element = iterator.get_next()
    parts = element["x"].values, element["y"].values
    with session() as sess:
        for _ in range(2):
            sess.run(iterator.initialize())
            found = []
            with pytest.raises(tf.errors.OutOfRangeError):
                while True:
                    found.append([p.tolist() for p in sess.run(parts)[0]])
            assert found == [[[0, 1], [2, 3]], [[4, 5], [6, 7]], [[8], [9]]]


def test_each_replica_has_batches_of_its_own():
    def inputs(context):
        size = context.get_per_replica_batch_size(4)
        return tf.data.Dataset.range(8).batch(size, drop_remainder=True)

    iterator = strategy().make_input_fn_iterator(inputs)
    values = iterator.get_next().values
    assert iterator.output_shapes.as_list() == [2] and iterator.output_classes is tf.Tensor
    with session() as sess:
        sess.run(iterator.initializer)
        found = [[p.tolist() for p in sess.run(values)] for _ in range(2)]
        assert found == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]


def test_training_on_a_dataset():
    x = np.random.RandomState(0).randn(64, 2).astype(np.float32)
    y = x @ np.array([[2.0], [-1.0]], np.float32)
    dataset = (
        tf.data.Dataset.from_tensor_slices((x, y)).shuffle(64, seed=1).repeat().batch(16, True)
    )
    mirrored = strategy()
    with mirrored.scope():
        w = tf.get_variable("w", [2, 1], initializer=tf.zeros_initializer())

        def step(batch):
            features, targets = batch
            loss = tf.reduce_mean(tf.square(tf.matmul(features, w) - targets))
            return tf.train.GradientDescentOptimizer(0.2).minimize(loss)

        iterator = mirrored.make_dataset_iterator(dataset)
        train = mirrored.experimental_run(step, iterator)
    with session() as sess:
        sess.run([tf.global_variables_initializer(), iterator.initialize()])
        for _ in range(80):
            sess.run(mirrored.experimental_local_results(train))
        np.testing.assert_allclose(sess.run(w.values[0])[:, 0], [2, -1], atol=1e-2)


def test_errors():
    mirrored = strategy()
    with pytest.raises(ValueError, match="cannot be shared by 2 replicas"):
        mirrored.make_dataset_iterator(tf.data.Dataset.range(9).batch(3, drop_remainder=True))
    with pytest.raises(ValueError, match="no batches"):
        mirrored.make_dataset_iterator(tf.data.Dataset.range(9))
    with pytest.raises(TypeError, match=r"needs a tf\.data\.Dataset"):
        mirrored.make_dataset_iterator([1])
    with pytest.raises(ValueError, match=r"must return a tf\.data\.Dataset"):
        mirrored.make_input_fn_iterator(lambda context: 3)
