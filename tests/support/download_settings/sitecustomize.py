"""Python runs this first where this folder is on PYTHONPATH: the download stage then meets the server of a test.

The client looks up its server in a table; the archives of the tests are smaller than the real one, and the pauses
between retries shorter.
"""

import json
import os
import sys

if sys.orig_argv[1:] == ["-m", "stages.download"]:
    sys.path.insert(0, os.environ["TEST_PROJECT"])  # whose modules are run
    from kagglesdk import kaggle_env

    from dermoscopy.data.sources import archive, kaggle

    settings = json.loads(os.environ["TEST_SETTINGS"])
    kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.LOCAL] = settings["endpoint"]
    archive.IMAGES = settings["images"]
    for name in ("ARCHIVE_BYTES", "EXTRACTED_BYTES", "RETRIES", "FIRST_PAUSE", "LONGEST_PAUSE", "SILENCE"):
        setattr(kaggle, name, settings[name.lower()])
