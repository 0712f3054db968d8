"""Writes TFRecord files, and trains a classifier on them through `tf.data`.

    python examples/records.py [--folder records_run] [--epochs 20]

The data are the 1,797 digits of 8 by 8 pixels that scikit-learn brings along: each record holds 64 bytes of pixels and one
of the label. Reading, shuffling and batching go on in another thread while a step runs; the step itself is one program.
"""

import argparse
import os
import time

import numpy as np
from sklearn.datasets import load_digits

import headrace as tf

BATCH = 64
WANTED_ACCURACY = 0.95


def write_records(folder):
    """Writes four files for training and one for the test; returns their names."""
    digits = load_digits()
    order = np.random.RandomState(0).permutation(len(digits.target))
    names = [os.path.join(folder, f"train-{i}.tfrecord") for i in range(4)]
    names.append(os.path.join(folder, "test.tfrecord"))
    for number, name in enumerate(names):
        chosen = order[number * 350 : (number + 1) * 350] if number < 4 else order[1400:]
        options = tf.python_io.TFRecordOptions(tf.python_io.TFRecordCompressionType.GZIP)
        with tf.python_io.TFRecordWriter(name, options) as writer:
            for i in chosen:
                pixels = digits.images[i].astype(np.uint8).tobytes()
                writer.write(pixels + bytes([digits.target[i]]))
    return names[:4], names[4]


def parse(record):
    """(image, label) of a record."""
    values = tf.py_func(lambda r: np.frombuffer(r, np.uint8), [record], tf.uint8)
    values.set_shape([65])
    return tf.cast(values[:64], tf.float32) / 16.0, tf.cast(values[64], tf.int64)


def read(names, training):
    """Batches of (images, labels)."""
    records = tf.data.TFRecordDataset(names, "GZIP", num_parallel_reads=len(names))
    dataset = records.map(parse, num_parallel_calls=2).cache()
    if training:
        dataset = dataset.shuffle(1400, seed=1)
    return dataset.batch(BATCH).prefetch(2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", default="records_run")
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    os.makedirs(arguments.folder, exist_ok=True)
    train_names, test_name = write_records(arguments.folder)

    tf.set_random_seed(1)
    train, test = read(train_names, True), read([test_name], False)
    iterator = tf.data.Iterator.from_structure(train.output_types, train.output_shapes)
    begin_training, begin_test = iterator.make_initializer(train), iterator.make_initializer(test)
    images, labels = iterator.get_next()
    hidden = tf.layers.dense(images, 64, tf.nn.relu)
    logits = tf.layers.dense(hidden, 10)
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    step = tf.train.AdamOptimizer(0.01).minimize(loss)
    correct = tf.equal(tf.argmax(logits, 1), labels)

    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for epoch in range(1, arguments.epochs + 1):
            session.run(begin_training)
            start, losses = time.perf_counter(), []
            try:
                while True:
                    losses.append(session.run([loss, step])[0])
            except tf.errors.OutOfRangeError:
                seconds = time.perf_counter() - start
            print(f"epoch {epoch}: loss {np.mean(losses):.4f}, {seconds:.2f} s")
        session.run(begin_test)
        found = []
        try:
            while True:
                found.extend(session.run(correct))
        except tf.errors.OutOfRangeError:
            accuracy = np.mean(found)
    print(f"test accuracy {100 * accuracy:.2f}% of {len(found)}")
    return 0 if accuracy >= WANTED_ACCURACY else 1


if __name__ == "__main__":
    raise SystemExit(main())
