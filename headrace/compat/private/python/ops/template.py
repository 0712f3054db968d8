"""`tensorflow.python.ops.template`: the class behind `tf.make_template`."""

from headrace.api.template import Template as Template
