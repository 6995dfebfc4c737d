"""The report: one HTML page and the model card, from templates."""
