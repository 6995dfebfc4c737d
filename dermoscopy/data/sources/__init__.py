"""Where raw data come from: one module a source.

Each has `fetch(data, destination, work)`: fill the empty folder `destination` as data/raw from the `data` section of
the params, keeping what must survive an interruption in the folder `work`. data/raw holds `labels.csv`, the label table
as it came, and either `images/` or, for a folder that is read in place, `files.csv` with one row an image: `path`
(absolute), `bytes`, `modified` (nanoseconds since 1970).
"""
