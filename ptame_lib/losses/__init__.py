"""The explainers' losses as pure functions with named terms."""
