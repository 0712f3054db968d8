"""Classes of variables under the private names by which programs import them."""

import pytest

import headrace
from headrace.compat import alias


@pytest.fixture(autouse=True)
def installed():
    alias.install_alias(headrace)
    yield
    alias.remove_alias()


def test_classes_have_their_own_names():
    from tensorflow.python.ops import (
        control_flow_ops,
        resource_variable_ops,
        variable_scope,
        variables,
    )

    made = resource_variable_ops.ResourceVariable([1.0])
    assert made.op.type == "VarHandleOp" and isinstance(made, variables.VariableV1)
    assert resource_variable_ops.is_resource_variable(made)
    assert type(variables.Variable(1.0)) is variables.RefVariable
    with variable_scope._pure_variable_scope("pure"):
        assert variable_scope.get_variable("v", [1]).name == "pure/v:0"
    waits = control_flow_ops.with_dependencies([made.initializer], headrace.constant(1.0))
    assert made.initializer in waits.op.control_inputs
