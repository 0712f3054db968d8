"""Kills processes while a Saver saves, and restores what is left; run by test_saver_crashes.py.

    python saver_under_fire.py KIND KILLS SEED

It forks, so that a hundred victims cost one import; no XLA backend is started before the fork.
"""

import functools
import os
import random
import signal
import sys
import tempfile
import time

import numpy as np

import headrace as tf

ROWS = 4000
SAVERS = {
    "numbered": {"max_to_keep": 3},
    "one_prefix": {},
    "sharded": {"max_to_keep": 2, "sharded": True},
    "v1": {"max_to_keep": 2, "write_version": tf.train.SaverDef.V1},
}


def model(kind):
    """A graph whose variables all hold the step; returns what fills and reads them, and the saver."""
    graph = tf.Graph()
    with graph.as_default():
        number = tf.placeholder(tf.float32, [], name="number")
        variables = [tf.get_variable("step", initializer=np.float32(0))]
        for i in range(3):
            with tf.device(f"/cpu:{i % 2}"):
                initial = np.zeros(ROWS, np.float32)
                variables.append(tf.get_variable(f"rows{i}", initializer=initial))
        saver = tf.train.Saver(**SAVERS[kind])
    return graph, variables, saver, number


def save_forever(kind, parts, folder, step, ready):
    """Saves one step after the other; tells `ready` when each begins."""
    graph, variables, saver, _ = parts
    with tf.Session(graph=graph, config=tf.ConfigProto(device_count={"CPU": 2})) as sess:
        state = tf.train.get_checkpoint_state(folder)
        if state is not None:
            saver.recover_last_checkpoints(list(state.all_model_checkpoint_paths))
        while True:
            step += 1
            for variable in variables:
                variable.load(np.full(variable.shape.as_list(), step, np.float32), sess)
            number = None if kind == "one_prefix" else step
            os.write(ready, b"!")
            saver.save(sess, os.path.join(folder, "model"), global_step=number)


def look(parts, folder, report):
    """Restores the newest checkpoint, with the saver and from its `.meta` alone, and reports its step."""
    graph, variables, saver, _ = parts
    latest = tf.train.latest_checkpoint(folder)
    step = -1
    if latest is not None:
        for path in tf.train.get_checkpoint_state(folder).all_model_checkpoint_paths:
            assert tf.train.checkpoint_exists(path), f"{path} is listed and gone"
        with tf.Session(graph=graph, config=tf.ConfigProto(device_count={"CPU": 2})) as sess:
            saver.restore(sess, latest)
            values = sess.run(variables)
        step = int(values[0])
        assert all((v == step).all() for v in values), "values of another save"
        if not latest.endswith("model"):
            assert latest.endswith(f"-{step}"), f"{latest} holds step {step}"
        with tf.Graph().as_default():
            assert tf.train.import_meta_graph(latest + ".meta") is not None
            assert len(tf.global_variables()) == len(variables)
    os.write(report, b"%d" % step)


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


def step_in_place(parts, folder):
    reading, writing = os.pipe()
    child = in_child(lambda: look(parts, folder, writing))
    os.close(writing)
    _, status = os.waitpid(child, 0)
    text = os.read(reading, 100)
    os.close(reading)
    assert status == 0, "the newest checkpoint does not load"
    return int(text)


def main(kind, kills, seed):
    rng = random.Random(seed)
    parts = model(kind)
    last = -1
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(kills):
            begins, ready = os.pipe()
            child = in_child(functools.partial(save_forever, kind, parts, folder, last, ready))
            os.close(ready)
            # In one of the first saves, however long this machine takes to start XLA and to save.
            saves, start, taken = rng.randint(1, 3), time.monotonic(), 0.1
            for _ in range(saves):
                if not os.read(begins, 1):
                    break  # the child has failed
                start, taken = time.monotonic(), time.monotonic() - start
            time.sleep(rng.uniform(0.0, taken if saves > 1 else 0.1))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            os.close(begins)
            assert os.WIFSIGNALED(status), "the child failed by itself"
            step = step_in_place(parts, folder)
            assert step >= last, f"step {step} after step {last}"
            last = step
        left = len(os.listdir(folder))
    assert last > 0, "nothing was ever saved"
    print(f"{kind}: {kills} kills, step {last}, {left} files left")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
