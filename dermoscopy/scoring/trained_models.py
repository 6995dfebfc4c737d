"""Trained models of Git revisions, DVC experiments or the workspace, to predict new images; nothing is checked out."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dermoscopy.model.head_info import read_head_info
from dermoscopy.model.members import Member, named
from dermoscopy.runtime.errors import enumerated
from dermoscopy.runtime.params import Evaluate
from dermoscopy.runtime.paths import BACKBONE, FINETUNED, HEAD, HEAD_INFO
from dermoscopy.scoring.runs import WORKSPACE, params_of, revision


def models_in_words(names: Sequence[str]) -> str:
    """Return whose probabilities are predicted."""
    if len(names) == 1:
        return f"the model of {names[0]}"
    return f"the mean of {len(names)} models: {enumerated(names)}"


@contextmanager
def members_of(names: Sequence[str] | None, evaluate: Evaluate, *also: Path) -> Iterator[list[Member]]:
    """Yield the models of revisions, or that of the workspace; their files are there until the context ends.

    A model that is named several times is fetched once, and so is a backbone that several heads were trained on, from
    the first of them.

    Args:
        names: as `revision` takes them; each has its own `evaluate.tta` and `evaluate.prior_exponent`. None is the
            workspace, without a name.
        evaluate: of the workspace.
        also: what else the project of a head must have.

    Raises:
        DataError: there is no such revision, it has no trained model, or DVC's cache lacks a file of it.
        BackboneError: what it says of its backbone cannot be read.
    """
    if names is None:
        yield [Member(evaluate.prior_exponent, tta=evaluate.tta)]
        return
    members: dict[str, Member] = {}
    backbones: dict[str, Path] = {}  # the project that has it, by fingerprint
    with ExitStack() as stack:
        for name in dict.fromkeys(names):
            tta, exponent = evaluate.tta, evaluate.prior_exponent
            if name != WORKSPACE:
                params = params_of(name)
                # a run from before there was an exponent took the likeliest class
                tta, exponent = params["evaluate.tta"], params.get("evaluate.prior_exponent", 0)
            project = stack.enter_context(revision(name, HEAD, HEAD_INFO, *also))
            with named(name, project):
                fingerprint = read_head_info(project / HEAD_INFO).backbone
            if fingerprint not in backbones:
                backbones[fingerprint] = stack.enter_context(revision(name, BACKBONE, if_any=[FINETUNED]))
            members[name] = Member(exponent, name, project, backbones[fingerprint], tta)
        yield [members[name] for name in names]
