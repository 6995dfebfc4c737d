"""Pages to try the model on; each is run as `python -m apps.NAME`."""

from dermoscopy.runtime.environment import forbid_telemetry
from dermoscopy.runtime.interrupt import leave_on_interrupt

leave_on_interrupt()
forbid_telemetry()
