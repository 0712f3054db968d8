"""The classic way to use several devices: towers that share variables, and averaged gradients."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import headrace as tf

pytest.importorskip("sklearn")
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "towers.py"


@pytest.fixture(scope="module")
def towers():
    spec = importlib.util.spec_from_file_location("towers_example", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_four_devices_learn_what_one_learns(towers):
    wanted = towers.train(devices=1, steps=30)
    found = towers.train(devices=4, steps=30)
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-3)
    assert wanted[0][-1] < 0.5 * wanted[0][0] and found[1] == pytest.approx(wanted[1], abs=0.01)
    assert len(found[2]) == len(wanted[2]) == 6
    for one, other in zip(found[2], wanted[2], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-2, atol=2e-4)


def test_every_tower_runs_on_its_device(towers):
    images, labels, train, loss, _ = towers.build(4)
    variables = tf.trainable_variables()
    assert len(variables) == 6 and {v.device for v in variables} == {"/device:CPU:0"}
    options = tf.RunOptions(output_partition_graphs=True)
    metadata = tf.RunMetadata()
    with tf.Session(config=tf.ConfigProto(device_count={"CPU": 4})) as sess:
        sess.run(tf.global_variables_initializer())
        fed = {images: np.ones([8, 8, 8, 1]), labels: np.arange(8)}
        sess.run([train, loss], fed, options, metadata)
    convolutions = {}
    for graph in metadata.partition_graphs:
        for node in graph.node:
            if node.op == "Conv2DBackpropFilter":
                convolutions[node.name.split("/")[0]] = node.device[-1]
    assert convolutions == {f"tower_{i}": str(i) for i in range(4)}
