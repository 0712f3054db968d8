"""Symbolic gradients: the backward walk, gradients by name, sums of gradients, custom gradients.

Everything here adds nodes (with `raw.X`) to the graph that it differentiates. The gradient of a single op type is not
here but beside the op, in `ops/`; public names are in `api/gradients.py`.
"""

from headrace.autodiff import control_flow as control_flow
from headrace.autodiff import symbolic as symbolic
from headrace.autodiff.aggregate import AggregationMethod as AggregationMethod
from headrace.autodiff.gradients import UnconnectedGradients as UnconnectedGradients
from headrace.autodiff.gradients import gradients as gradients
from headrace.autodiff.registry import RegisterGradient as RegisterGradient
from headrace.autodiff.registry import gradient_rule_of as gradient_rule_of
from headrace.autodiff.registry import no_gradient as no_gradient
