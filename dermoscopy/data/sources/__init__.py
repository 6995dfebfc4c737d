"""Where raw data come from: one module a source.

`kaggle` and `sample` have `fetch(data, destination, work)`: fill the empty folder `destination` as data/raw, with
`labels.csv`, the label table as it came, and `images/`, from the `data` section of the params, keeping what must
survive an interruption in the folder `work`. `directory` lists a folder that is read where it is.
"""
