"""What a fine-tuning has done so far, on disk: an interrupted one goes on from it, a finished one is taken again."""

import hashlib
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from dermoscopy.runtime.files import replacing
from dermoscopy.runtime.params import Finetune


class Progress(BaseModel):
    """progress.json: the metrics of each epoch, that of the frozen backbone first, and the SHA-256 of each file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True, ser_json_inf_nan="constants")

    history: list[dict[str, float]]
    files: dict[str, str]


class Tuning:
    """A fine-tuning and its folder; one whose files are damaged is begun anew.

    `head.npz` is the head when the joint training begins, `epoch_<n>.weights.h5` all weights and the optimizer's
    state after an epoch, of the last one and the best one; `progress.json` is written last.

    Attributes:
        folder: that has the files.
        history: the metrics of each epoch; `val_loss` is always there.
    """

    def __init__(self, folder: Path, finetune: Finetune) -> None:
        self.folder = folder
        self._finetune = finetune
        self.history: list[dict[str, float]] = []
        with suppress(OSError, ValidationError):
            known = Progress.model_validate_json((folder / "progress.json").read_bytes())
            if all("val_loss" in values for values in known.history) and known.files == self._hashes(known.files):
                self.history = known.history
        if not self.history and folder.exists():
            shutil.rmtree(folder)

    @property
    def head(self) -> Path:
        """Where the head is when the joint training begins."""
        return self.folder / "head.npz"

    @property
    def done(self) -> int:
        """How many epochs were run."""
        return max(0, len(self.history) - 1)

    @property
    def best(self) -> int:
        """The epoch of the lowest validation loss; 0 is the frozen backbone. One that diverged is never it."""
        losses = np.array([values["val_loss"] for values in self.history])
        return int(np.argmin(np.nan_to_num(losses, nan=np.inf)))

    @property
    def finished(self) -> bool:
        """Whether no epoch is left, or the last ones have not improved."""
        if not self.history:
            return False
        return self.done >= self._finetune.epochs or self.done - self.best >= self._finetune.patience

    def weights(self, epoch: int) -> Path:
        """Return the file of all weights after an epoch."""
        return self.folder / f"epoch_{epoch}.weights.h5"

    def save(self, write: Callable[[Path], None], size: int, values: dict[str, float]) -> None:
        """Keep what the next epoch made, and delete what is not needed any more.

        Args:
            write: writes all weights into a file, which takes `size` bytes at most.
            size: refused before it is begun where the disk has less.
            values: the metrics of the epoch.
        """
        self.history = [*self.history, values]
        with replacing(self.weights(self.done), size=size) as path:
            write(path)
        needed = [self.head, *{self.weights(self.best), self.weights(self.done)}]
        known = Progress(history=self.history, files=self._hashes(path.name for path in needed))
        with replacing(self.folder / "progress.json") as path:
            path.write_text(known.model_dump_json(), encoding="utf-8")
        for path in self.folder.glob("epoch_*.weights.h5"):
            if path not in needed:
                path.unlink()

    def _hashes(self, names: Iterable[str]) -> dict[str, str]:
        """Return the SHA-256 of some files of the folder."""
        hashes = {}
        for name in names:
            with (self.folder / name).open("rb") as file:
                hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
        return hashes
