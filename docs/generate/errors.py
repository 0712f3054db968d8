"""Writes docs/errors.md: common mistakes, each with the message that Headrace really prints.

Every case is a small program that is run here as the file train.py, in an empty folder.
"""

import contextlib
import io
import linecache
import os
import re
import tempfile
import textwrap
import traceback
import warnings
from pathlib import Path

import numpy as np

import headrace as tf

PAGE = Path(__file__).resolve().parents[1] / "errors.md"
WIDTH = 100
HEAD = """\
# Errors, and what to do about them

Written by `make docs`: each program below was run as `train.py`, and what it raised stands under it. (`tf` is
`headrace`, `np` is NumPy; long lines are folded.) An error names the op, what it got, what it needs, and after
`defined at` the line of *your* program that made the op: with graphs, that is seldom the line that was running.

Mistakes that show while the graph is built are `ValueError` or `TypeError`. What goes wrong while it runs is a
`tf.errors.OpError`: `error.op` is the operation, `error.message` the text. If a run fails, no variable has changed.

Tracebacks of `run` show your lines only; `HEADRACE_FULL_TRACEBACK=1` in the environment shows all of them:
"""

SECTIONS = {
    "Building the graph": [
        (
            "Shapes that do not fit together in matmul",
            """\
            images = tf.placeholder(tf.float32, [None, 784])
            weights = tf.ones([10, 784])
            scores = tf.matmul(images, weights, name="scores")
            """,
            "Transpose one of them, or pass `transpose_b=True`.",
        ),
        (
            "Shapes that do not broadcast",
            """\
            a = tf.ones([32, 3])
            b = tf.ones([32, 4])
            c = a + b
            """,
            "Sizes must be equal or 1, counted from the last dimension.",
        ),
        (
            "Two types in one op",
            """\
            count = tf.constant([1, 2, 3])
            mean = count * 0.5 + tf.constant([0.1, 0.2, 0.3])
            """,
            "Nothing is converted silently: write `tf.cast(count, tf.float32)`.",
        ),
        (
            "Reshaping to another number of elements",
            """\
            x = tf.ones([2, 3])
            flat = tf.reshape(x, [4, 2], name="flat")
            """,
            "One size may be -1: it becomes what is left.",
        ),
        (
            "A list whose rows differ in length",
            "x = tf.constant([[1, 2], [3]])",
            "A tensor is a box: pad the short rows.",
        ),
        (
            "An axis that is not there",
            "total = tf.reduce_sum(tf.ones([2, 3]), axis=2)",
            "Axes count from 0, or from -1 backwards.",
        ),
        (
            "Depths that differ in a convolution",
            'y = tf.nn.conv2d(tf.ones([1, 28, 28, 1]), tf.ones([5, 5, 3, 8]), [1, 1, 1, 1], "SAME", name="conv1")',
            "Filters are [height, width, input channels, output channels].",
        ),
        (
            "None for a tensor",
            """\
            def layer(x):
                y = tf.nn.relu(x)

            z = tf.nn.softmax(layer(tf.ones([2, 2])))
            """,
            "A function forgot its `return`.",
        ),
        (
            "A size that is not known yet",
            """\
            x = tf.placeholder(tf.float32, [None, 3])
            state = tf.zeros([x.shape[0], 5])
            """,
            "`x.shape` is what is known while building, `tf.shape(x)` what it is when it runs: "
            "`tf.zeros([tf.shape(x)[0], 5])`.",
        ),
        (
            "`if` with a tensor",
            """\
            x = tf.placeholder(tf.float32, [])
            if x > 0:
                y = x
            """,
            "The graph has no values yet. `tf.cond(x > 0, lambda: ..., lambda: ...)` decides when it runs.",
        ),
        (
            "A loop over a tensor",
            """\
            rows = tf.placeholder(tf.float32, [None, 3])
            for row in rows:
                print(row)
            """,
            "Work on all rows at once, or `tf.map_fn`; `tf.unstack` where the number of rows is known.",
        ),
        (
            "NumPy on a tensor",
            """\
            x = tf.ones([3])
            y = np.sqrt(x)
            """,
            "`tf.sqrt(x)` in the graph, or `np.sqrt(sess.run(x))` on its value.",
        ),
        (
            "A tensor of another graph",
            """\
            with tf.Graph().as_default():
                a = tf.constant(1.0, name="a")
            b = tf.constant(2.0, name="b")
            c = a + b
            """,
            "Build everything inside one `with graph.as_default():`, or in the default graph.",
        ),
        (
            "A graph that is finished",
            """\
            x = tf.constant(1.0)
            tf.get_default_graph().finalize()
            y = x + 1.0
            """,
            "Something adds nodes in the training loop: build them before it. (A Supervisor and a "
            "MonitoredSession finalize the graph.)",
        ),
    ],
    "Variables": [
        (
            "A variable without a value",
            """\
            w = tf.Variable(tf.zeros([3]), name="w")
            with tf.Session() as sess:
                print(sess.run(w * 2.0))
            """,
            "First run `tf.global_variables_initializer()`, in this session: each has its own values.",
        ),
        (
            "A resource variable without a value",
            """\
            w = tf.get_variable("w", [3], use_resource=True)
            with tf.Session() as sess:
                print(sess.run(w * 2.0))
            """,
            "The same, in the words that TensorFlow uses for resource variables.",
        ),
        (
            "get_variable, twice",
            """\
            w1 = tf.get_variable("w", [3])
            w2 = tf.get_variable("w", [3])
            """,
            'To share it: `tf.variable_scope("...", reuse=tf.AUTO_REUSE)`; else give it another name or scope. In a '
            "notebook, `tf.reset_default_graph()` before building again.",
        ),
        (
            "Reusing a variable that is not there",
            """\
            with tf.variable_scope("layer"):
                tf.get_variable("weights", [3])
            with tf.variable_scope("layer", reuse=True):
                tf.get_variable("weight", [3])
            """,
            "A misspelt name, another scope, or the first use has `reuse=True` too.",
        ),
        (
            "Sharing with another shape",
            """\
            with tf.variable_scope("layer"):
                tf.get_variable("w", [784, 10])
            with tf.variable_scope("layer", reuse=True):
                tf.get_variable("w", [784, 100])
            """,
            "Two layers use one name: give them scopes of their own.",
        ),
        (
            "A variable whose size is not known",
            """\
            x = tf.placeholder(tf.float32, [None, 3])
            w = tf.get_variable("w", x.shape)
            """,
            "Variables do not have a size for each batch: give all sizes, or an initial value.",
        ),
        (
            "Assigning a value of another shape",
            """\
            w = tf.Variable([1.0, 2.0], name="w")
            change = w.assign([1.0, 2.0, 3.0])
            """,
            "A variable keeps its shape; `tf.assign(w, value, validate_shape=False)` lifts that.",
        ),
    ],
    "Fetching and feeding": [
        (
            "A placeholder that is not fed",
            """\
            x = tf.placeholder(tf.float32, [None, 3], name="images")
            y = tf.reduce_sum(x)
            tf.Session().run(y)
            """,
            "Pass `feed_dict={x: ...}`. Summaries that depend on a placeholder need it too.",
        ),
        (
            "A feed of another shape",
            """\
            x = tf.placeholder(tf.float32, [None, 784], name="images")
            tf.Session().run(x * 2.0, {x: np.ones([28, 28])})
            """,
            "Reshape the array: `image.reshape(1, 784)`.",
        ),
        (
            "A feed of another type",
            """\
            x = tf.placeholder(tf.float32, [None], name="lengths")
            tf.Session().run(x * 2.0, {x: ["short", "long"]})
            """,
            "Convert it before, or make it a placeholder of `tf.string`.",
        ),
        (
            "A number that the type cannot hold",
            """\
            n = tf.placeholder(tf.int32, [], name="n")
            tf.Session().run(n, {n: 3000000000})
            """,
            "`tf.int64` goes to 9.2e18.",
        ),
        (
            "Feeding a tensor",
            """\
            x = tf.placeholder(tf.float32, [3], name="x")
            tf.Session().run(x * 2.0, {x: tf.ones([3])})
            """,
            "Feeds are values. Run the tensor first, or use it in the graph in place of the placeholder.",
        ),
        (
            "Fetching something else",
            """\
            loss = tf.constant(0.5, name="loss")
            tf.Session().run([loss, 0.5])
            """,
            "Often a tensor whose name was used again: `loss = sess.run(loss)` makes `loss` a number.",
        ),
        (
            "Fetching None",
            """\
            loss = tf.constant(0.5, name="loss")
            tf.Session().run([None, loss])
            """,
            "A function forgot its `return`, or a gradient is None: nothing leads from it to the loss.",
        ),
        (
            "A name that does not exist",
            """\
            loss = tf.constant(0.5, name="loss")
            tf.Session().run("los:0")
            """,
            '`"loss"` is the operation, `"loss:0"` its first output.',
        ),
        (
            "A tensor of a graph that the session does not run",
            """\
            x = tf.constant(1.0, name="x")
            with tf.Graph().as_default():
                a = tf.constant(2.0, name="a")
            tf.Session().run([x, a])
            """,
            "A session runs one graph, the default one where none is named: `tf.Session(graph=graph)`.",
        ),
        (
            "No session",
            "tf.constant(1.0).eval()",
            "`eval` and `run` use the session of the `with` block around them.",
        ),
        (
            "A closed session",
            """\
            x = tf.constant(1.0)
            with tf.Session() as sess:
                sess.run(x)
            sess.run(x)
            """,
            "The `with` block closes it: what uses it must be indented.",
        ),
        (
            "An empty graph",
            """\
            with tf.Graph().as_default():
                tf.Session().run([])
            """,
            "The session was made in another graph than the ops.",
        ),
        (
            "A device that is not there",
            """\
            with tf.device("/gpu:2"):
                a = tf.constant([1.0, 2.0], name="a")
            tf.Session().run(a)
            """,
            "With `tf.ConfigProto(allow_soft_placement=True)` it runs where there is a place.",
        ),
    ],
    "Running": [
        (
            "Shapes that show only when it runs",
            """\
            x = tf.placeholder(tf.float32, [None, None], name="x")
            y = tf.matmul(x, tf.ones([4, 3]), name="scores")
            tf.Session().run(y, {x: np.ones([2, 5])})
            """,
            "Give placeholders their sizes: then such mistakes show earlier, where they are made.",
        ),
        (
            "Reshaping what does not divide",
            """\
            x = tf.placeholder(tf.float32, name="x")
            flat = tf.reshape(x, [-1, 784], name="flat")
            tf.Session().run(flat, {x: np.ones([2, 100])})
            """,
            "The batch is not made of images of 784 pixels.",
        ),
        (
            "An index outside",
            """\
            table = tf.ones([10, 4])
            words = tf.placeholder(tf.int32, [None], name="words")
            vectors = tf.nn.embedding_lookup(table, words, name="lookup")
            tf.Session().run(vectors, {words: [1, 12]})
            """,
            "The vocabulary is larger than the table. (On GPUs, TensorFlow gave zeros instead.)",
        ),
        (
            "A label outside",
            """\
            labels = tf.placeholder(tf.int32, [None], name="labels")
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=tf.ones([2, 5]))
            tf.Session().run(loss, {labels: [1, 7]})
            """,
            "Five classes have the labels 0 to 4.",
        ),
        (
            "Not a number",
            """\
            x = tf.placeholder(tf.float32, [None], name="x")
            loss = tf.check_numerics(tf.log(x), "loss")
            tf.Session().run(loss, {x: [1.0, -1.0]})
            """,
            "`tf.add_check_numerics_ops()` finds the first op that makes one.",
        ),
        (
            "An exception in a py_func",
            """\
            def third(values):
                return values[2]

            x = tf.constant([1.0, 2.0])
            y = tf.py_func(third, [x], tf.float32, name="third")
            tf.Session().run(y)
            """,
            "The traceback shows your function's own error above this one.",
        ),
        (
            "A py_func that returns another type",
            """\
            x = tf.constant([1.0, 2.0])
            y = tf.py_func(lambda v: v.astype(np.float64), [x], tf.float32, name="halves")
            tf.Session().run(y)
            """,
            "NumPy makes float64 unasked: `.astype(np.float32)`.",
        ),
    ],
    "Gradients and training": [
        (
            "No variable is reached",
            """\
            w = tf.Variable(1.0, name="w")
            loss = tf.square(tf.constant(3.0), name="loss")
            train = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
            """,
            "The loss does not depend on them, or through something that has no slope: `argmax`, `round`, a cast to "
            "an integer, a `py_func`.",
        ),
        (
            "No variable at all",
            """\
            loss = tf.square(tf.constant(3.0), name="loss")
            train = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
            """,
            "Variables with `trainable=False` do not count.",
        ),
        (
            "An op without a gradient",
            """\
            w = tf.Variable([1.0, 2.0, 3.0], name="w")
            loss = tf.reduce_sum(tf.random_shuffle(w, name="mix") * [1.0, 2.0, 3.0])
            slope = tf.gradients(loss, w)
            """,
            "Find another way to compute it, or give the op a gradient with `tf.custom_gradient`.",
        ),
    ],
    "Checkpoints": [
        (
            "There is no such checkpoint",
            """\
            w = tf.Variable(1.0, name="w")
            tf.train.Saver().restore(tf.Session(), "models/model.ckpt")
            """,
            "The name goes without `.index` or `.meta`; `tf.train.latest_checkpoint(folder)` finds the newest.",
        ),
        (
            "A variable that the checkpoint does not have",
            """\
            def save(name, value):
                with tf.Graph().as_default(), tf.Session() as sess:
                    sess.run(tf.Variable(value, name=name).initializer)
                    return tf.train.Saver().save(sess, "model.ckpt")

            path = save("layer/weights", [1.0, 2.0])
            w = tf.Variable([0.0, 0.0], name="layer/weight")
            tf.train.Saver().restore(tf.Session(), path)
            """,
            '`tf.train.Saver({"layer/weights": w})` maps names; `headrace inspect-checkpoint model.ckpt` lists them.',
        ),
        (
            "A variable of another shape in the checkpoint",
            """\
            def save(name, value):
                with tf.Graph().as_default(), tf.Session() as sess:
                    sess.run(tf.Variable(value, name=name).initializer)
                    return tf.train.Saver().save(sess, "model.ckpt")

            path = save("weights", [1.0, 2.0])
            w = tf.Variable([0.0, 0.0, 0.0], name="weights")
            tf.train.Saver().restore(tf.Session(), path)
            """,
            "The model has changed since: train again, or leave the variable out of the Saver.",
        ),
        (
            "A checkpoint that is cut off",
            """\
            w = tf.Variable(np.ones(100), name="weights")
            sess = tf.Session()
            sess.run(w.initializer)
            path = tf.train.Saver().save(sess, "model.ckpt")
            with open("model.ckpt.data-00000-of-00001", "r+b") as file:
                file.truncate(400)
            tf.train.Saver().restore(sess, path)
            """,
            "A copy or a download that stopped half-way: fetch the file again.",
        ),
    ],
}


def main():
    """Writes the page."""
    PAGE.write_text(page())
    print(f"docs/{PAGE.name}: {sum(map(len, SECTIONS.values()))} errors")


def page():
    """The text of the page."""
    example = SECTIONS["Running"][2]
    parts = [HEAD, f"```text\n{shown_traceback(textwrap.dedent(example[1]))}\n```\n"]
    for section, cases in SECTIONS.items():
        parts.append(f"## {section}\n")
        for title, source, advice in cases:
            program = textwrap.dedent(source).strip()
            error = error_of(program)
            folded = textwrap.fill(advice, 112, break_long_words=False)
            parts.append(
                f"### {title}\n\n```python\n{program}\n```\n```text\n{text_of(error)}\n```\n{folded}\n"
            )
    return "\n".join(parts)


def error_of(program):
    """What `program` raises when it is run as train.py, on an empty graph and in an empty folder."""
    linecache.cache["train.py"] = (len(program), None, program.splitlines(True), "train.py")
    before = os.getcwd()
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            tf.Graph().as_default(),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            os.chdir(folder)
            try:
                exec(
                    compile(program, "train.py", "exec"),
                    {"tf": tf, "np": np, "__name__": "__main__"},
                )
            except Exception as error:
                return error
            finally:
                os.chdir(before)
    finally:
        del linecache.cache["train.py"]
    raise AssertionError(f"this program raises nothing:\n{program}")


def text_of(error):
    """The error as the last lines of a traceback show it, folded; without lines of this script."""
    kind = type(error)
    name = f"tf.errors.{kind.__name__}" if isinstance(error, tf.errors.OpError) else kind.__name__
    message = re.sub(
        r'  File "(?!train\.py).*\n(?: {4}.*\n)?', "", f"{str(error).rstrip()}\n"
    ).rstrip()
    lines = f"{name}: {message}".splitlines()
    return "\n".join(_fold(line) for line in lines)


def _fold(line):
    # Shapes stay in one piece.
    joined = re.sub(
        r"(?<=[\d?]), (?=[\d?])|(?<==) (?=\[)", lambda m: m[0].replace(" ", "\xa0"), line
    )
    folded = textwrap.fill(
        joined, WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )
    return folded.replace("\xa0", " ")


def shown_traceback(program):
    """The whole traceback of `program` as a terminal shows it."""
    error = error_of(program)
    linecache.cache["train.py"] = (len(program), None, program.splitlines(True), "train.py")
    try:
        text = "".join(traceback.format_exception(error)).rstrip()
    finally:
        del linecache.cache["train.py"]
    text = re.sub(r'  File "[^"]*errors\.py".*\n(?: {4}.*\n)+', "", text)
    text = re.sub(r'File "[^"]*/headrace/', 'File ".../headrace/', text)
    return re.sub(r'(File "\.\.\./headrace/[^"]*", line )\d+', r"\1...", text)


if __name__ == "__main__":
    main()
