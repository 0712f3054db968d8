"""`tf.summary`: what TensorBoard shows, as operations, and the writer of its files.

The values themselves are made by the ops in `ops/summary_ops.py`, the files by `io/event_file.py`.
"""

from headrace.summary import (
    summaries as summaries,
)
from headrace.summary import (
    writer as writer,
)
