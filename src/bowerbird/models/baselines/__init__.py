"""Simple and strong: what every deeper model has to beat."""
