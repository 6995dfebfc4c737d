"""Pages to try the model on; each is run as `python -m apps.NAME`."""

from dermoscopy.runtime.environment import forbid_telemetry, require_environment
from dermoscopy.runtime.interrupt import leave_on_interrupt

leave_on_interrupt()
require_environment()
forbid_telemetry()
