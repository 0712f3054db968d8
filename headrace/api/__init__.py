"""What `tf.` exposes: functions that compose operations. No kernels here, and nothing that knows sessions or devices.

Importing this room files the public names (see `api/export.py`); `headrace/__init__.py` hangs them into `tf`.
"""

import headrace.ops  # noqa: F401  (fills the registry that the functions below build from)
from headrace.api import (
    framework as framework,
)
from headrace.api import (
    source as source,
)
