"""How fast the pipeline is, compared with what: `make bench`."""

from dermoscopy.runtime.environment import forbid_telemetry

forbid_telemetry()
