"""From operations to programs: rules applied to traced or real values, state, checks, random numbers.

Kernels that several op families share belong here; whatever knows sessions or devices does not.
"""
