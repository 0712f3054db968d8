"""What XLA has compiled: `headrace.compilations()`. TensorFlow has no such name: its kernels were compiled before."""

from headrace.api.export import export_value
from headrace.lowering.compilations import compilations

export_value(compilations, "compilations")
