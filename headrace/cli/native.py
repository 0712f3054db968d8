"""`headrace native`: compiles the optional kernels in C++ for this environment."""

from headrace.native.build import main

__all__ = ["main"]
