"""From features to labels."""
