"""Trained models of Git revisions, DVC experiments or the workspace, to predict new images; nothing is checked out."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from textwrap import shorten

from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from dermoscopy.model.head_info import read_head_info
from dermoscopy.model.members import Member, named
from dermoscopy.runtime.errors import DataError, enumerated
from dermoscopy.runtime.paths import BACKBONE, FINETUNED, HEAD, HEAD_INFO, PARAMS
from dermoscopy.scoring.runs import revision


class _Evaluate(BaseModel):
    prior_exponent: float = 0  # a run from before there was one took the likeliest class


class _Params(BaseModel):
    """What is read of params.yaml, whose other sections may be those of another version of the pipeline."""

    evaluate: _Evaluate = _Evaluate()


def models_in_words(names: Sequence[str]) -> str:
    """Return whose probabilities are predicted."""
    if len(names) == 1:
        return f"the model of {names[0]}"
    return f"the mean of {len(names)} models: {enumerated(names)}"


@contextmanager
def members_of(names: Sequence[str] | None, prior_exponent: float, *also: Path) -> Iterator[list[Member]]:
    """Yield the models of revisions, or that of the workspace; their files are there until the context ends.

    A backbone that several heads were trained on is fetched once, from the first of them.

    Args:
        names: as `revision` takes them; each has an `evaluate.prior_exponent` of its own. None is the workspace.
        prior_exponent: for the workspace, where there are no names.
        also: what else the project of a head must have.

    Raises:
        DataError: there is no such revision, it has no trained model, or DVC's cache lacks a file of it.
        BackboneError: what it says of its backbone cannot be read.
    """
    if names is None:
        yield [Member(prior_exponent)]
        return
    members: list[Member] = []
    backbones: dict[str, Path] = {}  # the project that has it, by fingerprint
    with ExitStack() as stack:
        for name in names:
            project = stack.enter_context(revision(name, PARAMS, HEAD, HEAD_INFO, *also))
            with named(name, project):
                exponent = read_prior_exponent(project / PARAMS)
                fingerprint = read_head_info(project / HEAD_INFO).backbone
            if fingerprint not in backbones:
                backbones[fingerprint] = stack.enter_context(revision(name, BACKBONE, if_any=[FINETUNED]))
            members.append(Member(exponent, name, project, backbones[fingerprint]))
        yield members


def read_prior_exponent(params: Path) -> float:
    """Return `evaluate.prior_exponent` of the params of any version of the pipeline, 0 where there is none."""
    try:
        content = YAML(typ="safe", pure=True).load(params.read_text(encoding="utf-8"))
        return _Params.model_validate(content).evaluate.prior_exponent
    except (ValueError, YAMLError) as error:
        reason = shorten(str(error), 200, placeholder=" ...")
        raise DataError(f"evaluate.prior_exponent cannot be read from {params} ({reason}): fix it there") from None
