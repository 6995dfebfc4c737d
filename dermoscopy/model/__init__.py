"""The head: its definition, its training, and the prediction of new images."""
