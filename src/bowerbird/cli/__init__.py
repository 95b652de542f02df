"""Commands: thin doors onto the library."""
