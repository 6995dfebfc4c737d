"""What the real runs share."""

from pathlib import Path

import pytest

from tests.support.once import made_once


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DVC cache for all runs of the session, so that a stage of the same inputs and params runs once."""
    return made_once(tmp_path_factory, "dvc-cache", lambda folder: None)
