"""Trains a convolutional classifier of handwritten digits, the way of TensorFlow 1.

    python examples/digits.py [--folder digits_run] [--epochs 12]

The data are the 1,797 digits of 8 by 8 pixels that scikit-learn brings along. Written to the folder: a checkpoint,
TensorBoard events and the curve of the loss. At the end a second graph, read from the checkpoint alone,
names some digits that the first never trained on.
"""

import argparse
import os
import sys
import time

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from rich.columns import Columns
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text
from sklearn.datasets import load_digits

import headrace as tf

BATCH = 64
WANTED_ACCURACY = 0.97
console = Console()


def read_data():
    """Returns (training images, labels, test images, labels); images are [N, 8, 8, 1] in [0, 1]."""
    digits = load_digits()
    images = (digits.images / 16.0).astype(np.float32)[..., np.newaxis]
    order = np.random.RandomState(0).permutation(len(images))
    train, test = order[:1400], order[1400:]
    return images[train], digits.target[train], images[test], digits.target[test]


def weights(shape, name):
    fan_in = np.prod(shape[:-1])
    return tf.Variable(tf.truncated_normal(shape, stddev=np.sqrt(2.0 / fan_in)), name=name)


def build():
    """Adds the network, its loss and one training step to the default graph."""
    images = tf.placeholder(tf.float32, [None, 8, 8, 1], name="images")
    labels = tf.placeholder(tf.int64, [None], name="labels")

    with tf.name_scope("conv1"):
        w, b = weights([3, 3, 1, 32], "w"), tf.Variable(tf.zeros([32]), name="b")
        h = tf.nn.relu(tf.nn.conv2d(images, w, strides=[1, 1, 1, 1], padding="SAME") + b)
    with tf.name_scope("conv2"):
        w, b = weights([3, 3, 32, 64], "w"), tf.Variable(tf.zeros([64]), name="b")
        h = tf.nn.relu(tf.nn.conv2d(h, w, strides=[1, 1, 1, 1], padding="SAME") + b)
        h = tf.nn.max_pool(h, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="SAME")
    with tf.name_scope("dense"):
        w, b = weights([4 * 4 * 64, 10], "w"), tf.Variable(tf.zeros([10]), name="b")
        logits = tf.matmul(tf.reshape(h, [-1, 4 * 4 * 64]), w) + b

    prediction = tf.argmax(logits, axis=1, name="prediction")
    loss = tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits), name="loss"
    )
    accuracy = tf.reduce_mean(tf.cast(tf.equal(prediction, labels), tf.float32), name="accuracy")
    step = tf.Variable(0, trainable=False, name="global_step")
    train = tf.train.AdamOptimizer(2e-3).minimize(loss, global_step=step, name="train")
    tf.summary.scalar("loss", loss)
    tf.summary.scalar("accuracy", accuracy)
    return images, labels, loss, accuracy, train, step


def train(folder, epochs):
    """Trains on the default graph. Returns (checkpoint prefix, test accuracy, losses of the steps)."""
    train_images, train_labels, test_images, test_labels = read_data()
    tf.set_random_seed(1)
    images, labels, loss, accuracy, train_step, step = build()
    summaries, saver = tf.summary.merge_all(), tf.train.Saver()
    random, losses = np.random.RandomState(1), []

    columns = (
        TextColumn("[bold]training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
    )
    batches = len(train_images) // BATCH
    with tf.Session() as sess, Progress(*columns, console=console) as progress:
        task = progress.add_task("training", total=epochs * batches, loss=float("nan"))
        writer = tf.summary.FileWriter(folder, sess.graph)
        sess.run(tf.global_variables_initializer())
        for _ in range(epochs):
            order = random.permutation(len(train_images))
            for batch in np.split(order[: batches * BATCH], batches):
                fed = {images: train_images[batch], labels: train_labels[batch]}
                _, value, record = sess.run([train_step, loss, summaries], fed)
                losses.append(value)
                writer.add_summary(record, len(losses))
                progress.update(task, advance=1, loss=value)
        reached = sess.run(accuracy, {images: test_images, labels: test_labels})
        prefix = saver.save(sess, os.path.join(folder, "digits.ckpt"), global_step=step)
        writer.close()
    return prefix, float(reached), losses


def draw_losses(losses, path):
    smooth = np.convolve(losses, np.ones(20) / 20, mode="valid")
    figure, axes = plt.subplots(figsize=(7, 4))
    axes.plot(losses, color="0.8", label="every step")
    axes.plot(np.arange(len(smooth)) + 10, smooth, label="mean of 20 steps")
    axes.set(xlabel="step", ylabel="cross entropy", yscale="log", title="Handwritten digits")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def show_predictions(prefix):
    """Restores the checkpoint into a new graph and prints some test digits with their predictions."""
    _, _, images, labels = read_data()
    with tf.Graph().as_default(), tf.Session() as sess:
        saver = tf.train.import_meta_graph(prefix + ".meta")
        saver.restore(sess, prefix)
        predicted = sess.run("prediction:0", {"images:0": images})
    wrong = np.flatnonzero(predicted != labels)[:4]
    shown = [*np.flatnonzero(predicted == labels)[: 8 - len(wrong)], *wrong]
    console.print(
        Columns([picture(images[i], predicted[i], labels[i]) for i in shown], padding=(1, 2))
    )


def picture(image, predicted, label):
    """One digit in shades of the terminal, two columns to the pixel, and what it was taken for."""
    shades = " ░▒▓█"
    levels = (image[..., 0] * (len(shades) - 1)).round().astype(int)
    rows = ["".join(shades[level] * 2 for level in row) for row in levels]
    if predicted == label:
        caption = (f"it says {predicted}".center(16), "bold green")
    else:
        caption = (f"{predicted}, but is {label}".center(16), "bold red")
    return Text.assemble("\n".join(rows) + "\n", caption)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", default="digits_run")
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args()
    os.makedirs(options.folder, exist_ok=True)

    start = time.time()
    prefix, accuracy, losses = train(options.folder, options.epochs)
    draw_losses(losses, os.path.join(options.folder, "loss.png"))
    console.print(
        f"test accuracy [bold]{accuracy:.2%}[/bold], {len(losses)} steps, {time.time() - start:.1f} s"
    )
    show_predictions(prefix)
    console.print(
        f"checkpoint  headrace inspect-checkpoint {prefix}\n"
        f"events      tensorboard --logdir {options.folder}\n"
        f"loss        {os.path.join(options.folder, 'loss.png')}",
        highlight=False,
    )
    if accuracy < WANTED_ACCURACY:
        sys.exit(f"the accuracy should be at least {WANTED_ACCURACY:.0%}")


if __name__ == "__main__":
    main()
