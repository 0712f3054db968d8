"""Logical devices, and the devices of JAX that they are on."""

import subprocess
import sys
import textwrap

import jax
import pytest

import headrace as tf
from headrace.runtime.devices import _visible, cpu_devices, local_devices


def in_a_process(program, **env):
    """The lines that `program` prints in a process of its own."""
    import os

    left_out = ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS")
    environment = {k: v for k, v in os.environ.items() if k not in left_out}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**environment, **env},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_first_session_decides_how_many_cpus_jax_has():
    program = """
        import headrace as tf, jax
        from headrace.runtime.devices import local_devices
        assert not jax._src.xla_bridge.backends_are_initialized()
        with tf.Session(config=tf.ConfigProto(device_count={"CPU": 3})) as sess:
            print(sess.run(tf.constant(1.0) + 1.0), jax.local_device_count())
        more = local_devices(tf.ConfigProto(device_count={"CPU": 5}))
        print([d.index for d in more], [d.physical.id for d in more])
    """
    assert in_a_process(program) == ["2.0 3", "[0, 1, 2, 3, 4] [0, 1, 2, 0, 1]"]
    assert in_a_process(program, JAX_NUM_CPU_DEVICES="4")[0] == "2.0 4"
    flags = "--xla_force_host_platform_device_count=6"  # what the user said, where that is more
    assert in_a_process(program, XLA_FLAGS=flags)[0] == "2.0 6"


def test_logical_cpus_share_the_devices_of_jax():
    here = jax.local_devices(backend="cpu")
    shared = cpu_devices(2 * len(here) + 1)
    assert shared == [*here, *here, here[0]]
    listed = local_devices(tf.ConfigProto(device_count={"CPU": 3, "GPU": 0}))
    assert [(d.device_type, d.index, d.incarnation) for d in listed] == [
        ("CPU", 0, 1),
        ("CPU", 1, 2),
        ("CPU", 2, 3),
    ]
    assert local_devices()[0].name == "/job:localhost/replica:0/task:0/device:CPU:0"


class _Gpu:
    def __init__(self, number):
        self.local_hardware_id = number


def test_visible_gpus_are_chosen_by_their_numbers():
    gpus = [_Gpu(0), _Gpu(1), _Gpu(2)]
    assert _visible(gpus, "2,0") == [gpus[2], gpus[0]]
    assert _visible([], "0") == []
    with pytest.raises(tf.errors.InvalidArgumentError, match="invalid GPU id '7'"):
        _visible(gpus, "0,7")


def test_what_programs_ask_about_gpus():
    gpus = [d for d in local_devices() if d.device_type == "GPU"]
    assert tf.test.gpu_device_name() == ("/device:GPU:0" if gpus else "")
    assert tf.test.is_gpu_available() == bool(gpus)
    assert not tf.test.is_gpu_available(min_cuda_compute_capability=(99, 0))
    assert isinstance(tf.test.is_built_with_cuda(), bool)
    assert tf.test.is_built_with_gpu_support() == (
        tf.test.is_built_with_cuda() or tf.test.is_built_with_rocm()
    )
    cpus = tf.config.experimental.list_physical_devices("CPU")
    assert cpus == [("/physical_device:CPU:0", "CPU")]
    assert tf.config.experimental.list_logical_devices("CPU")[0].name.endswith("/device:CPU:0")
    assert tf.config.experimental_list_devices()[0].endswith("/device:CPU:0")
