"""docs/config.md has a row for every field of the protos, and no others."""

import re
from pathlib import Path

import pytest
from tensorboard.compat.proto import config_pb2, rewriter_config_pb2

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "config.md").read_text()
PROTOS = [
    config_pb2.ConfigProto,
    config_pb2.GPUOptions,
    config_pb2.GraphOptions,
    config_pb2.OptimizerOptions,
    config_pb2.RunOptions,
    rewriter_config_pb2.RewriterConfig,
]


@pytest.mark.parametrize("proto", PROTOS, ids=lambda proto: proto.DESCRIPTOR.name)
def test_every_field_has_a_row(proto):
    section = PAGE.partition(f"\n## {proto.DESCRIPTOR.name}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", section, re.MULTILINE)
    assert [name for name, _ in rows] == [field.name for field in proto.DESCRIPTOR.fields]
    assert all(text.endswith(".") for _, text in rows)
