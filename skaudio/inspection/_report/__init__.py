"""The report: a page to look at and listen to."""
