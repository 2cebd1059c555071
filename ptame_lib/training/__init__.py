"""How explainers are trained."""
