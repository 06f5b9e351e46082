"""Functions for fitted pipelines."""
