"""Trains one classifier of handwritten digits on several devices, a tower of the network on each.

    python examples/towers.py [--devices 4] [--steps 200]

Every tower has its part of the batch and its own operations; the variables are shared and live on the first CPU. The
gradients of the towers are averaged, so that a step is the step of the whole batch on one device. The devices are CPUs
here; for GPUs write `/gpu:%d`.
"""

import argparse
import sys
import time

import numpy as np
from sklearn.datasets import load_digits

import headrace as tf

BATCH = 128
WANTED_ACCURACY = 0.95


def read_data():
    """Returns (training images, labels, test images, labels); images are [N, 8, 8, 1] in [0, 1]."""
    digits = load_digits()
    images = (digits.images / 16.0).astype(np.float32)[..., np.newaxis]
    order = np.random.RandomState(0).permutation(len(images))
    train, test = order[:1400], order[1400:]
    return images[train], digits.target[train], images[test], digits.target[test]


def variable_on_cpu(name, shape, initializer):
    with tf.device("/cpu:0"):
        return tf.get_variable(name, shape, initializer=initializer)


def inference(images):
    """The logits of the digits: [N, 10]."""
    with tf.variable_scope("conv"):
        kernel = variable_on_cpu(
            "kernel", [3, 3, 1, 16], tf.truncated_normal_initializer(stddev=0.3)
        )
        bias = variable_on_cpu("bias", [16], tf.zeros_initializer())
        h = tf.nn.relu(tf.nn.conv2d(images, kernel, [1, 1, 1, 1], "SAME") + bias)
        h = tf.nn.max_pool(h, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
    with tf.variable_scope("dense"):
        weights = variable_on_cpu("weights", [256, 64], tf.truncated_normal_initializer(stddev=0.1))
        bias = variable_on_cpu("bias", [64], tf.zeros_initializer())
        h = tf.nn.relu(tf.matmul(tf.reshape(h, [-1, 256]), weights) + bias)
    with tf.variable_scope("softmax"):
        weights = variable_on_cpu("weights", [64, 10], tf.truncated_normal_initializer(stddev=0.1))
        bias = variable_on_cpu("bias", [10], tf.zeros_initializer())
        return tf.matmul(h, weights) + bias


def tower_loss(scope, images, labels):
    """The loss of one tower: cross entropy, and what else the tower filed under its name scope."""
    cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=inference(images)
    )
    tf.add_to_collection("losses", tf.reduce_mean(cross_entropy, name="cross_entropy"))
    return tf.add_n(tf.get_collection("losses", scope), name="total_loss")


def average_gradients(tower_grads):
    """(gradient, variable) pairs, each gradient the mean of those of the towers."""
    averaged = []
    for pairs in zip(*tower_grads, strict=True):
        gradient = tf.reduce_mean(tf.stack([g for g, _ in pairs]), axis=0)
        averaged.append((gradient, pairs[0][1]))
    return averaged


def build(devices):
    """Adds the towers and one training step to the default graph."""
    with tf.device("/cpu:0"):
        images = tf.placeholder(tf.float32, [None, 8, 8, 1], name="images")
        labels = tf.placeholder(tf.int64, [None], name="labels")
        step = tf.get_variable("global_step", [], tf.int64, tf.zeros_initializer(), trainable=False)
        rate = tf.train.exponential_decay(0.2, step, 100, 0.8)
        optimizer = tf.train.MomentumOptimizer(rate, 0.9)
        parts = zip(tf.split(images, devices), tf.split(labels, devices), strict=True)

        tower_grads, losses = [], []
        with tf.variable_scope(tf.get_variable_scope()):
            for i, (own_images, own_labels) in enumerate(parts):
                with tf.device("/cpu:%d" % i), tf.name_scope("tower_%d" % i) as scope:  # noqa: UP031
                    loss = tower_loss(scope, own_images, own_labels)
                    tf.get_variable_scope().reuse_variables()
                    tower_grads.append(optimizer.compute_gradients(loss))
                    losses.append(loss)

        train = optimizer.apply_gradients(average_gradients(tower_grads), global_step=step)
        loss = tf.reduce_mean(tf.stack(losses), name="loss")
        with tf.variable_scope(tf.get_variable_scope(), reuse=True):
            correct = tf.equal(tf.argmax(inference(images), axis=1), labels)
        accuracy = tf.reduce_mean(tf.cast(correct, tf.float32), name="accuracy")
    return images, labels, train, loss, accuracy


def train(devices, steps):
    """Trains in a graph of its own. Returns (losses of the steps, test accuracy, values of the variables, seconds)."""
    train_images, train_labels, test_images, test_labels = read_data()
    random, losses = np.random.RandomState(1), []
    with tf.Graph().as_default():
        tf.set_random_seed(1)
        images, labels, train_step, loss, accuracy = build(devices)
        # The operations of a network differ in number with its towers, and so would their seeds.
        start = {v: random.randn(*v.shape.as_list()) * 0.1 for v in tf.trainable_variables()}
        config = tf.ConfigProto(device_count={"CPU": devices}, allow_soft_placement=True)
        with tf.Session(config=config) as sess:
            sess.run(tf.global_variables_initializer())
            for variable, value in start.items():
                variable.load(value.astype(np.float32), sess)
            began = time.time()
            for _ in range(steps):
                chosen = random.randint(len(train_images), size=BATCH)
                fed = {images: train_images[chosen], labels: train_labels[chosen]}
                losses.append(sess.run([train_step, loss], fed)[1])
            seconds = time.time() - began
            reached = sess.run(accuracy, {images: test_images, labels: test_labels})
            values = sess.run(tf.trainable_variables())
    return np.array(losses), float(reached), values, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", type=int, default=4, help="a divisor of 128")
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    losses, accuracy, _, seconds = train(options.devices, options.steps)
    print(
        f"{options.devices} towers, {options.steps} steps in {seconds:.1f} s: loss {losses[0]:.3f} to {losses[-1]:.3f}, "
        f"test accuracy {accuracy:.2%}"
    )
    if accuracy < WANTED_ACCURACY:
        sys.exit(f"the accuracy should be at least {WANTED_ACCURACY:.0%}")


if __name__ == "__main__":
    main()
