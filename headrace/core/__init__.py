"""What every other room stands on: element types, static shapes, errors, nested structures,
device names, creation sites, and the encoding of array values.

Here belongs what has no notion of a graph, an operation or a device that computes. The room imports
NumPy, ml_dtypes, the standard library and the compiled protocol buffers; not JAX, and nothing of
Headrace outside itself.
"""
