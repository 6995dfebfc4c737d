"""Python runs this first where this folder is on PYTHONPATH: the download stage then meets the local server.

The client looks up its server in a table; the archives of tests and benchmarks are smaller than the real one, and the
pauses of tests between retries shorter. See `meet` in benchmarks/kaggle_server.py.
"""

import json
import os
import sys

if sys.orig_argv[1:] == ["-m", "stages.download"]:
    sys.path.insert(0, os.environ["DOWNLOAD_PROJECT"])  # whose modules are run
    from kagglesdk import kaggle_env

    from dermoscopy.data.sources import archive, kaggle

    settings = json.loads(os.environ["DOWNLOAD_SETTINGS"])
    kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.LOCAL] = settings.pop("endpoint")
    for name, value in settings.items():
        setattr(archive if name == "images" else kaggle, name.upper(), value)
