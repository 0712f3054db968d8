"""Kills processes while they save, and looks at what is left; run by test_crashes.py.

    python saving_under_fire.py KIND KILLS SEED

It forks, so that a hundred victims cost one import; it loads nothing that has threads.
"""

import functools
import os
import random
import signal
import sys
import tempfile
import time

import numpy as np

from headrace.core import errors
from headrace.io import BundleReader, BundleWriter, TensorSliceReader, TensorSliceWriter
from headrace.io import merge_bundles as merge

ROWS = 5000


def save_v2(prefix, step):
    with BundleWriter(prefix) as writer:
        writer.add("step", np.int64(step))
        writer.add("x", np.full(ROWS, step, np.float32))
        writer.add("text", np.array([b"%d" % step] * 50, object))


def save_sharded(prefix, step):
    """Saves a partitioned tensor in one to three shards, as a sharded Saver does."""
    shards = step % 3 + 1
    parts = [f"{prefix}_temp_{os.getpid()}/part-{i}" for i in range(shards)]
    for i, part in enumerate(parts):
        with BundleWriter(part) as writer:
            if i == 0:
                writer.add("step", np.int64(step))
                writer.add("text", np.array([b"%d" % step] * 50, object))
            rows = np.full((1, ROWS), step, np.float32)
            writer.add_slice("x", (shards, ROWS), [(i, 1), (0, None)], rows)
    merge(parts, prefix, delete_old_dirs=True)


def save_v1(prefix, step):
    writer = TensorSliceWriter(prefix)
    writer.add("step", np.int64(step))
    writer.add("x", np.full(ROWS, step, np.float32))
    writer.add("text", np.array([b"%d" % step] * 50, object))
    writer.finish()


SAVE = {"v2": save_v2, "sharded": save_sharded, "v1": save_v1}
READER = {"v2": BundleReader, "sharded": BundleReader, "v1": TensorSliceReader}


def step_of(kind, prefix):
    """Returns the step of the checkpoint in place, all of it read, or -1 where there is none."""
    try:
        reader = READER[kind](prefix)
    except errors.NotFoundError:
        return -1
    with reader:
        step = int(reader.read("step"))
        assert (reader.read("x") == step).all(), "values of another save"
        assert set(reader.read("text").tolist()) == {b"%d" % step}, "strings of another save"
    return step


def in_child(action):
    """Returns the process in which `action` runs."""
    child = os.fork()
    if child:
        return child
    try:
        action()
        os._exit(0)
    except BaseException as error:
        print(f"in the child: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def save_forever(kind, prefix, step):
    while True:
        step += 1
        SAVE[kind](prefix, step)


def kill_at_random(kind, prefix, kills, rng):
    """SIGKILL at any moment: never a step back, never a torn checkpoint."""
    last = -1
    for _ in range(kills):
        child = in_child(functools.partial(save_forever, kind, prefix, last))
        time.sleep(rng.uniform(0.001, 0.05))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "the child failed by itself"
        step = step_of(kind, prefix)
        assert step >= last, f"step {step} after step {last}"
        last = step
    assert last > 0, "nothing was saved; the machine is too slow for this test"
    return f"{kills} kills, {last} saves"


def stop_before_call(number):
    """Makes the process die in place of the `number`-th call that changes the disk."""
    calls = 0

    def dying(function):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == number:
                os._exit(9)
            return function(*args, **kwargs)

        return call

    for name in ("replace", "link", "unlink", "fsync", "rmdir", "mkdir"):
        setattr(os, name, dying(getattr(os, name)))


def stop_at_every_call(kind, folder):
    """Death before each call that changes the disk, and then a save over what it left."""
    deaths = 0
    for saves_before in range(4):
        number = 0
        finished = False
        while not finished:
            number += 1
            prefix = os.path.join(folder, f"{saves_before}-{number}")
            for step in range(saves_before):
                SAVE[kind](prefix, step)

            def victim(step=saves_before, prefix=prefix, number=number):
                stop_before_call(number)
                SAVE[kind](prefix, step)

            _, status = os.waitpid(in_child(victim), 0)
            assert os.WEXITSTATUS(status) in (0, 9)
            finished = os.WEXITSTATUS(status) == 0
            deaths += not finished
            step = step_of(kind, prefix)
            assert step in (saves_before - 1, saves_before), (saves_before, number, step)
            assert not finished or step == saves_before
            SAVE[kind](prefix, 7)
            assert step_of(kind, prefix) == 7
    return f"{deaths} deaths"


def read_meanwhile(kind, prefix, reads):
    """A reader beside a writer that saves over and over sees whole checkpoints, in order."""
    SAVE[kind](prefix, 0)
    child = in_child(lambda: save_forever(kind, prefix, 0))
    try:
        last = done = 0
        while done < reads or not last:
            step = step_of(kind, prefix)
            assert step >= last
            last = step
            done += 1
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return f"{done} reads, {last} saves"


def main(kind, kills, seed):
    with tempfile.TemporaryDirectory() as folder:
        print(kill_at_random(kind, os.path.join(folder, "killed"), kills, random.Random(seed)))
        print(stop_at_every_call(kind, folder))
        print(read_meanwhile(kind, os.path.join(folder, "shared"), 5 * kills))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
