"""docs/config.md has a row for every field of the protos, and no others; what is honoured has a test."""

import re
from pathlib import Path

import pytest
from tensorboard.compat.proto import config_pb2

TESTS = Path(__file__).resolve().parents[1]
PAGE = (TESTS.parent / "docs" / "config.md").read_text()
# Parts that have no section: the page says why, or they hold a program's own values.
LEFT_OUT = {"ClusterDef", "JobDef", "CoordinationServiceConfig", "CoordinatedJob"}
LEFT_OUT |= {"AttrValue", "TensorShapeProto", "TensorProto", "ResourceHandleProto"}
LEFT_OUT |= {"VariantTensorDataProto", "NameAttrList"}
# The test of each field that is honoured.
TESTED = {
    "ConfigProto.device_count": "session/test_options.py::test_devices",
    "ConfigProto.intra_op_parallelism_threads": "session/test_options.py::test_threads_of_an_op",
    "ConfigProto.allow_soft_placement": "session/test_options.py::test_a_device_that_is_not_there_is_refused",
    "ConfigProto.log_device_placement": "session/test_options.py::test_placement_is_logged",
    "ConfigProto.operation_timeout_in_ms": "session/test_options.py::test_a_limit_of_time",
    "GPUOptions.per_process_gpu_memory_fraction": "session/test_gpu_options.py::test_memory_options_reach_jax",
    "GPUOptions.allow_growth": "session/test_gpu_options.py::test_memory_options_reach_jax",
    "GPUOptions.visible_device_list": "session/test_gpu_options.py::test_visible_devices_in_their_order",
    "GPUOptions.Experimental.virtual_devices": "session/test_gpu_options.py::test_virtual_devices",
    "GPUOptions.Experimental.VirtualDevices.memory_limit_mb": "session/test_gpu_options.py::test_virtual_devices",
    "GraphOptions.build_cost_model": "passes/test_cost_placement.py::test_a_session_places_by_cost_where_it_is_asked_to",
    "GraphOptions.build_cost_model_after": "session/test_options.py::test_the_cost_model_is_told_of_every_so_many_runs",
    "GraphOptions.infer_shapes": "session/test_session.py::test_the_graph_of_a_session",
    "GraphOptions.place_pruned_graph": "session/test_options.py::test_a_device_that_is_not_there_is_refused",
    "RunOptions.trace_level": "session/test_profile.py::test_a_program_is_told_by_its_operations",
    "RunOptions.timeout_in_ms": "session/test_options.py::test_a_limit_of_time",
    "RunOptions.output_partition_graphs": "session/test_options.py::test_traces_tell_each_op_on_its_device",
    "RewriterConfig.memory_optimization": "session/test_rematerialize.py::test_heuristics_take_half_the_memory",
    "RewriterConfig.memory_optimizer_target_node_name_scope": (
        "session/test_rematerialize.py::test_heuristics_take_half_the_memory"
    ),
    "RewriterConfig.auto_mixed_precision": "train/test_mixed_precision.py::test_the_switch",
    "RewriterConfig.auto_mixed_precision_mkl": (
        "train/test_mixed_precision.py::test_the_program_computes_in_16_bits"
    ),
    "RewriterConfig.auto_mixed_precision_onednn_bfloat16": (
        "train/test_mixed_precision.py::test_the_program_computes_in_16_bits"
    ),
    "RewriterConfig.auto_mixed_precision_cpu": (
        "train/test_mixed_precision.py::test_the_program_computes_in_16_bits"
    ),
    "RewriterConfig.custom_optimizers": "session/test_rematerialize.py::test_a_budget_takes_what_it_may",
    "RewriterConfig.CustomGraphOptimizer.name": "session/test_rematerialize.py::test_a_budget_takes_what_it_may",
    "RewriterConfig.CustomGraphOptimizer.parameter_map": (
        "session/test_rematerialize.py::test_unknown_parameters_are_refused"
    ),
}


def reachable(*protos):
    """The messages that a ConfigProto or RunOptions is made of, by their names without the package."""
    found, queue = {}, [proto.DESCRIPTOR for proto in protos]
    while queue:
        message = queue.pop()
        name = message.full_name.partition(".")[2]
        if name not in found and name.partition(".")[0] not in LEFT_OUT:
            if not message.GetOptions().map_entry:
                found[name] = message
            queue += [field.message_type for field in message.fields if field.message_type]
    return found


MESSAGES = reachable(config_pb2.ConfigProto, config_pb2.RunOptions)


def rows_of(name):
    section = PAGE.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \| (.+) \|$", section, re.MULTILINE)


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_every_field_has_a_row(name):
    rows = rows_of(name)
    assert [field for field, _ in rows] == [field.name for field in MESSAGES[name].fields]
    assert all(text.endswith(".") for _, text in rows)


def test_no_section_is_of_something_else():
    assert set(re.findall(r"^## (.+)$", PAGE, re.MULTILINE)) == set(MESSAGES)


def test_what_is_honoured_has_a_test():
    honoured = {
        f"{name}.{field}"
        for name in MESSAGES
        for field, text in rows_of(name)
        if "**Honoured**" in text
    }
    assert honoured == set(TESTED)
    for where in TESTED.values():
        path, _, test = where.partition("::")
        assert f"\ndef {test}(" in (TESTS / path).read_text(), where
