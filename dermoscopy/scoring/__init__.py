"""From predictions to numbers: metrics, intervals, calibration, comparison."""
