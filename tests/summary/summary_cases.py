"""The summaries whose bytes are stored: `build(tf)` makes them, in Headrace and in TensorFlow 1.15 (Python 3.7)."""

import numpy as np


def picture(channels, dtype, seed=0):
    random = np.random.RandomState(seed + channels)
    return random.randn(2, 3, 5, channels).astype(dtype)


def build(tf):
    """Returns the summaries by name."""
    found = {}
    values = np.random.RandomState(3).randn(300) * np.logspace(-14, 22, 300)
    with tf.name_scope("outer"):
        found["scalar"] = tf.summary.scalar("inner", tf.constant(3, tf.int32))
        found["family"] = tf.summary.scalar("inner", tf.constant(0.1), family="fam")
        found["family again"] = tf.summary.scalar("inner", tf.constant(0.1), family="fam")
        found["cleaned"] = tf.summary.scalar("a b/$c", tf.constant(7.5, tf.float64))
        found["histogram"] = tf.summary.histogram("h", tf.constant(values))
        found["histogram of limits"] = tf.summary.histogram(
            "h", tf.constant([0.0, 1e-12, -1e-12, 1e20, 1e30, -1e300, 1.1e-12], tf.float64)
        )
        found["histogram of integers"] = tf.summary.histogram(
            "h", tf.constant([[1, 2, 2], [-5, 0, 127]], tf.int8)
        )
        found["histogram of nothing"] = tf.summary.histogram("h", tf.zeros([0]))
        found["histogram of half"] = tf.summary.histogram("h", tf.constant([0.5, 0.25], tf.float16))
        found["histogram of one"] = tf.summary.histogram("h", tf.constant(10.0))
    for channels in (1, 3, 4):
        for dtype in ("float16", "float32", "float64"):
            for kind, change in (
                ("signed", lambda x: x),
                ("positive", np.abs),
                ("zero", np.zeros_like),
            ):
                image = change(picture(channels, dtype))
                name = f"image/{dtype}/{channels}/{kind}"
                found[name] = tf.summary.image(name, tf.constant(image), max_outputs=1)
        image = picture(channels, "float32", 7)
        image[0, 1, 2, 0] = np.nan
        image[1, 0, 0, channels - 1] = np.inf
        found[f"bad pixels {channels}"] = tf.summary.image("bad", tf.constant(image))
        found[f"bytes {channels}"] = tf.summary.image(
            "bytes", tf.constant(np.nan_to_num(image * 40).clip(0, 255).astype(np.uint8))
        )
    sound = (np.random.RandomState(5).rand(2, 11, 2) * 2.2 - 1.1).astype(np.float32)
    halves = (np.array([[0.5, -0.5, 1.5, -1.5, 2.5, 32767.5, -32768.5]]) / 32768).astype(np.float32)
    found["sound"] = tf.summary.audio("snd", tf.constant(sound), 8000.0)
    found["one sound"] = tf.summary.audio("snd", tf.constant(sound[..., 0]), 22050.5, max_outputs=1)
    found["rounding"] = tf.summary.audio("snd", tf.constant(halves), 0.2)
    found["text"] = tf.summary.text("t", tf.constant([["a", "*b*"], ["", "\u00e9"]]))
    found["tensor"] = tf.summary.tensor_summary(
        "x",
        tf.constant([[1.5, -2.0]], tf.float64),
        summary_description="d",
        display_name="n",
        family="f",
    )
    found["merged"] = tf.summary.merge(
        [found["scalar"], found["histogram of one"], found["text"]], name="both"
    )
    return found
