"""The trained explainers, one a file."""
