"""How fast the pipeline is, against what: `make bench`."""

from pathlib import Path

RESULTS = Path(__file__).with_name("results.json")
