"""How fast the pipeline is, compared with what: `make bench`."""
