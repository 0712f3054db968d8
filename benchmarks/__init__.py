"""Measures Headrace beside TensorFlow, PyTorch and JAX: `python -m benchmarks --help`."""
