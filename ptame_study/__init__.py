"""The study: what its notebooks and the command ``ptame`` share."""
