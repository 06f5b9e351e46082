"""Classifiers of spectrograms."""
