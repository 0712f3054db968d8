"""Before and between the steps: building graphs and gradients, the first step, imports, checkpoints, memory over many steps."""

import os
import shutil
import tempfile

import numpy as np

from benchmarks.workloads import images, sequences, small
from benchmarks.workloads.registry import EVENT, workload

building = workload(
    "graph_building",
    "build a graph of 2,000 operations",
    full={"operations": 2000},
    tiny={"operations": 20},
    tolerance=None,
)
differentiating = workload(
    "graph_gradients",
    "tf.gradients over 2,000 operations",
    full={"operations": 2000},
    tiny={"operations": 20},
    tolerance=None,
)


def _nodes(tf, count):
    x = start = tf.placeholder(tf.float32, [8, 8])
    for _ in range(count // 5):
        x = tf.nn.relu(tf.tanh(tf.matmul(x, x) + x) * x)
    return start, x


@building.tf
def _building_tf(tf, size):
    def step():
        with tf.Graph().as_default():
            _nodes(tf, size.operations)

    return step


@differentiating.tf
def _differentiating_tf(tf, size):
    graph = tf.Graph()
    with graph.as_default():
        start, end = _nodes(tf, size.operations)

    def step():
        with graph.as_default():
            if tf.gradients(end, start)[0] is None:
                raise AssertionError("The end does not depend on the start.")

    return step


importing = workload("import", "import", kind=EVENT, tolerance=None)


# The process that serves a workload has imported the framework before it builds; what that took is what counts here.
@importing.tf
@importing.torch
@importing.jax
def _importing(framework, size):
    return None


def _first_step(base, **smaller):
    """The time from the first line after the imports to the first loss, with the compilation cache empty and filled."""
    for cache in ("cold", "warm"):
        each = workload(
            f"first_step_{base.name}_{cache}",
            f"first step of {base.name}, {cache}",
            full={**base.full, **smaller},
            tiny=base.tiny,
            kind=EVENT,
            tolerance=base.tolerance,
            cache=cache,
        )
        each.builders.update(base.builders)


_first_step(small.mlp)
_first_step(images.lenet)
_first_step(images.resnet20)
_first_step(sequences.characters)
_first_step(images.resnet50_train)


def _first_steps(base, **smaller):
    """What a user of a new program waits for: imports, building, and so many steps, with no cache of compiled programs."""
    each = workload(
        f"first_steps_{base.name}",
        f"from the imports to the end of step 20 of {base.name}",
        full={**base.full, **smaller, "runs": 20},
        tiny={**base.tiny, "runs": 1},
        kind=EVENT,
        tolerance=base.tolerance,
        imports=True,
    )
    for contender, builder in base.builders.items():
        each.builders[contender] = _several(builder)


def _several(builder):
    def build(framework, size):
        step = builder(framework, size)

        def run():
            first = step()
            for _ in range(size.runs - 1):
                step()
            return first

        return run

    return build


_first_steps(small.mlp)
_first_steps(images.lenet)
_first_steps(images.resnet20)
_first_steps(sequences.characters)
_first_steps(images.resnet50_train)

CHECKPOINT = {"megabytes": 500, "variables": 10}
save = workload(
    "save", "save 500 MB", full=CHECKPOINT, tiny={"megabytes": 1, "variables": 2}, tolerance=None
)
restore = workload(
    "restore", "restore 500 MB", full=CHECKPOINT, tiny={"megabytes": 1, "variables": 2}
)


class _Folder:
    """A temporary folder that goes when the process ends in good order."""

    def __init__(self):
        self.path = tempfile.mkdtemp(prefix="checkpoint-")
        self._remove = shutil.rmtree

    def file(self):
        return os.path.join(self.path, "model")

    def __del__(self):
        self._remove(self.path, ignore_errors=True)


def _values(size):
    count = size.megabytes * (1 << 20) // 4 // size.variables // 1024
    return [np.full((count, 1024), i + 0.5, np.float32) for i in range(size.variables)]


def _checkpoint_tf(tf, size):
    variables = [tf.Variable(tf.fill(a.shape, float(a[0, 0]))) for a in _values(size)]
    session = tf.Session()
    session.run(tf.global_variables_initializer())
    last = tf.reshape(variables[-1][-1, -1], [])
    return tf.train.Saver(), session, last


@save.tf
def _save_tf(tf, size):
    saver, session, _ = _checkpoint_tf(tf, size)
    folder = _Folder()

    def step():
        saver.save(session, folder.file(), write_meta_graph=False)

    return step


@save.torch
def _save_torch(torch, size):
    values = {str(i): torch.from_numpy(a) for i, a in enumerate(_values(size))}
    folder = _Folder()
    return lambda: torch.save(values, folder.file())


@restore.tf
def _restore_tf(tf, size):
    saver, session, last = _checkpoint_tf(tf, size)
    folder = _Folder()
    path = saver.save(session, folder.file(), write_meta_graph=False)

    def step():
        saver.restore(session, path)
        folder.file()
        return float(session.run(last))

    return step


@restore.torch
def _restore_torch(torch, size):
    values = {str(i): torch.from_numpy(a) for i, a in enumerate(_values(size))}
    folder = _Folder()
    torch.save(values, folder.file())

    def step():
        for name, value in torch.load(folder.file()).items():
            values[name].copy_(value)
        return values[name][-1, -1].item()

    return step


def resident():
    """Megabytes of memory that the process holds now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _growth(builder):
    def build(framework, size):
        step = builder(framework, size)

        def run():
            for _ in range(size.runs // 20):
                step()
            before = resident()
            for _ in range(size.runs):
                step()
            return max(resident() - before, 0.0)

        return run

    return build


def _growing(name, what, model, size):
    grows = workload(
        name,
        f"memory gained over 100,000 steps of {what}",
        full={**size, "runs": 100_000},
        tiny={**model.tiny, "runs": 20},
        kind=EVENT,
        unit="MB",
        tolerance=None,
    )
    for contender, builder in model.builders.items():
        grows.builders[contender] = _growth(builder)


_growing("growth", "the MLP", small.mlp, {**small.mlp.full, "batch": 8})
for _name, _what, _model in (
    ("char_rnn", "a tiny character LSTM", sequences.characters),
    ("transformer", "a tiny Transformer", sequences.transformer),
    ("resnet20", "a tiny ResNet", images.resnet20),
):
    _growing(f"growth_{_name}", _what, _model, {**_model.full, **_model.tiny})
