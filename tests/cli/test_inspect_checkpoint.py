"""`headrace inspect-checkpoint`: every way to name a checkpoint leads to the same table."""

import numpy as np
import pytest

from headrace.cli import inspect_checkpoint
from headrace.io.tensor_bundle import BundleWriter


@pytest.fixture
def folder(tmp_path):
    with BundleWriter(tmp_path / "model.ckpt-3") as writer:
        writer.add("dense/kernel", np.arange(6, dtype=np.float32).reshape(2, 3))
        writer.add("global_step", np.int64(3) * np.ones((), np.int64))
        writer.finish()
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-3"\n')
    return tmp_path


@pytest.mark.parametrize(
    "name", ["", "model.ckpt-3", "model.ckpt-3.index", "model.ckpt-3.data-00000-of-00001"]
)
def test_the_table(folder, name, capsys):
    assert inspect_checkpoint.main([str(folder / name)]) == 0
    shown = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines()]
    assert ["dense/kernel", "float32", "[2,", "3]", "6"] in shown
    assert ["global_step", "int64", "[]", "1"] in shown
    assert "2 tensors, 7 elements".split() in shown


def test_the_values_of_one(folder, capsys):
    assert inspect_checkpoint.main([str(folder), "dense/kernel"]) == 0
    assert capsys.readouterr().out == "dense/kernel =\n[[0., 1., 2.],\n [3., 4., 5.]]\n"


def test_what_is_not_there(folder, tmp_path, capsys):
    assert inspect_checkpoint.main([str(folder), "bias"]) == 1
    assert "bias" in capsys.readouterr().err
    assert inspect_checkpoint.main([str(tmp_path / "other.ckpt")]) == 1
    assert "other.ckpt" in capsys.readouterr().err
    (folder / "checkpoint").unlink()
    assert inspect_checkpoint.main([str(folder)]) == 1
    assert "no file 'checkpoint'" in capsys.readouterr().err
