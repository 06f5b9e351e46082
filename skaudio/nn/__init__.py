"""Torch modules and functions: tensors in, tensors out; they know nothing of scikit-learn."""
