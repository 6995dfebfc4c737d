"""The stages of the pipeline; each is run as `python -m stages.NAME`."""

from dermoscopy.runtime.interrupt import leave_on_interrupt

leave_on_interrupt()
