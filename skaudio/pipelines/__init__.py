"""What is done with fitted pipelines."""
