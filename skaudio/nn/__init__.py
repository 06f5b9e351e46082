"""Torch modules and functions: tensors in, tensors out; they know nothing of scikit-learn."""

from skaudio.nn._differentiable import DifferentiableArray

__all__ = ["DifferentiableArray"]
