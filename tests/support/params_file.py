"""params.yaml files for tests: the repository's, with some values changed."""

from dermoscopy.runtime.params import load_params
from dermoscopy.runtime.workspace import PROJECT, write_params

PARAMS = load_params(PROJECT / "params.yaml")

__all__ = ["PARAMS", "write_params"]
