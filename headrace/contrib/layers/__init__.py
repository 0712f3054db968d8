"""`tf.contrib.layers`: what remains of it beside `tf.layers`."""

from headrace.contrib.layers.recompute import recompute_grad as recompute_grad
