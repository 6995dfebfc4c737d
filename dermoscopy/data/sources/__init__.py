"""Where raw data comes from: one module a source.

Each has `fetch(data, destination, work)`: fill the empty folder `destination` as data/raw (see stages/download.py)
from the `data` section of the params, keeping what must survive an interruption in the folder `work`.
"""
