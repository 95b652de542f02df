"""bowerbird: a table of interactions in; a measured, explained, live recommender out."""
__version__ = "0.1.0"
