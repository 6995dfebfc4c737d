"""How fast the pipeline is, against what: `make bench`."""
