"""Classifiers to explain, each wrapped once as pixels in [0,1] -> logits."""
