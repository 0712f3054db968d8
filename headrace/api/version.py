"""`tf.VERSION` and its like: those of the TensorFlow that programs expect, not Headrace's own.

Programs compare them to find out what they may call. Headrace's version is `headrace.__version__`.
"""

from headrace.api.export import export_value

export_value("1.15.5", "VERSION", "version.VERSION")
export_value("v1.15.5", "GIT_VERSION", "version.GIT_VERSION")
export_value("none", "COMPILER_VERSION", "version.COMPILER_VERSION")
export_value(134, "GRAPH_DEF_VERSION", "version.GRAPH_DEF_VERSION")
export_value(0, "GRAPH_DEF_VERSION_MIN_CONSUMER", "version.GRAPH_DEF_VERSION_MIN_CONSUMER")
export_value(0, "GRAPH_DEF_VERSION_MIN_PRODUCER", "version.GRAPH_DEF_VERSION_MIN_PRODUCER")
export_value(0, "CXX11_ABI_FLAG", "sysconfig.CXX11_ABI_FLAG")
export_value(0, "MONOLITHIC_BUILD", "sysconfig.MONOLITHIC_BUILD")
