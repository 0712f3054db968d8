"""What XLA has compiled: `headrace.compilations()`. TensorFlow has no such name: its kernels were compiled before."""

from headrace.api.export import export_value
from headrace.lowering.compilations import compilations
from headrace.lowering.program_cache import keep_programs

# Here, since nothing has been compiled yet when this is imported.
keep_programs()

export_value(compilations, "compilations")
