"""The command ``ptame``."""
