"""Torch modules and functions on tensors, independent of scikit-learn."""

from skaudio.nn._differentiable import DifferentiableArray

__all__ = ["DifferentiableArray"]
