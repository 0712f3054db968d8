"""Headrace: TensorFlow as it was before 2.0, on XLA. Use it as `import headrace as tf`."""

import sys as _sys

import headrace.api
import headrace.contrib
import headrace.data
import headrace.distribute
import headrace.keras
import headrace.layers
import headrace.losses
import headrace.saved_model
import headrace.summary
import headrace.train
from headrace.api import namespace as _namespace
from headrace.compat.alias import install_alias as install_alias

__version__ = "0.1.0"

_namespace.build(_sys.modules[__name__])
