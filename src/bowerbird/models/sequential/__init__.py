"""Models of histories: what comes next after what came before."""
