"""Tensor kernels: arithmetic that does not know what its operands mean."""
