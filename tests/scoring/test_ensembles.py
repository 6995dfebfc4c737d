"""Ensembles of runs: the mean of their probabilities, what it decides for, and which members a greedy one picks."""

import numpy as np
import pandas as pd
import pytest

from dermoscopy.runtime.errors import DataError
from dermoscopy.scoring.comparison import compare
from dermoscopy.scoring.definitions import losses_of
from dermoscopy.scoring.ensembles import best_member, combine, require_members, select
from dermoscopy.scoring.metrics import point_metrics, score
from dermoscopy.scoring.predictions import probabilities_of
from dermoscopy.scoring.runs import Run
from tests.support.prediction_tables import SHARES, drawn_images, make_predictions, make_run, predicted_again, worsened


def make_member(name: str, seed: int, skill: float = 2) -> Run:
    """Return a run with predictions of its own for the same validation and test images as all others."""
    test, validation = (predicted_again(drawn_images(400, part), seed + part, skill) for part in (0, 100))
    return make_run(name, test, validation)


def validation_loss(members: list[Run], weights: list[int]) -> float:
    return float(losses_of(combine(members, weights).validation).mean())


@pytest.mark.parametrize("exponent", [0, 0.5, 1, -0.7])
def test_an_ensemble_of_one_member_is_this_member_bit_for_bit(exponent: float) -> None:
    member = make_run("a", drawn_images(600), prior=SHARES if exponent else None, exponent=exponent)
    ensemble = combine([member], [1])
    for ours, theirs in ((ensemble.test, member.test), (ensemble.validation, member.validation)):
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True, check_dtype=False)
    assert score(ensemble.test, None, 1) == score(member.test, None, 1)
    assert point_metrics(ensemble.validation) == point_metrics(member.validation)


@pytest.mark.parametrize("weights", [[1, 1, 1], [3, 0, 2]])
def test_identical_members_give_identical_results(weights: list[int]) -> None:
    members = [make_member(name, seed=1) for name in "abc"]
    ensemble = combine(members, weights)
    assert compare(members[0], ensemble).identical
    assert point_metrics(ensemble.validation) == point_metrics(members[0].validation)


def test_probabilities_are_the_weighted_mean_and_the_class_is_the_likeliest() -> None:
    tables = [
        make_predictions(["nv", "mel"], values, ["bkl", "mel", "nv"])
        for values in ([[0.1, 0.5, 0.4], [0.3, 0.4, 0.3]], [[0.1, 0.2, 0.7], [0.9, 0.1, 0.0]])
    ]
    members = [make_run(name, table) for name, table in zip("ab", tables, strict=True)]
    equal, weighted = combine(members, [1, 1]), combine(members, [5, 1])
    assert probabilities_of(equal.test) == pytest.approx(np.array([[0.1, 0.35, 0.55], [0.6, 0.25, 0.15]]))
    assert list(equal.test["predicted"]) == ["nv", "bkl"]
    assert probabilities_of(weighted.test) == pytest.approx(np.array([[0.1, 0.45, 0.45], [0.4, 0.35, 0.25]]))
    assert list(combine(members, [6, 1]).test["predicted"]) == ["mel", "bkl"]
    assert list(equal.test["image_id"]) == list(tables[0]["image_id"])


def test_each_member_decides_by_its_own_exponent_and_prior_and_counts_alike() -> None:
    """By hand: of 0.7 and 0.3 the first member makes 0.7 / 0.8 and 0.3 / 0.2, which is 0.368 and 0.632 of their sum."""
    tables = [
        make_predictions(["mel", "nv"], values, ["nv", "mel"])
        for values in ([[0.7, 0.3], [0.7, 0.3]], [[0.6, 0.4], [0.66, 0.34]])
    ]
    by_prior = make_run("a", tables[0], prior=[0.8, 0.2], exponent=1)
    ensemble = combine([by_prior, make_run("b", tables[1])], [1, 1])
    # 0.368 + 0.6 < 0.632 + 0.4, but 0.368 + 0.66 > 0.632 + 0.34
    assert list(ensemble.test["predicted"]) == ["mel", "nv"]
    assert probabilities_of(ensemble.test) == pytest.approx(np.array([[0.65, 0.35], [0.68, 0.32]]))
    plain = combine([make_run(name, table) for name, table in zip("ab", tables, strict=True)], [1, 1])
    assert list(plain.test["predicted"]) == ["nv", "nv"]


def test_an_ensemble_of_runs_with_errors_of_their_own_is_better_than_each() -> None:
    members = [make_member(name, seed) for seed, name in enumerate("abcde")]
    ensemble = point_metrics(combine(members, [1] * 5).test)
    for member in members:
        alone = point_metrics(member.test)
        assert ensemble.log_loss < alone.log_loss
        assert ensemble.balanced_accuracy > alone.balanced_accuracy


def test_the_best_member_is_the_first_of_the_highest_balanced_accuracy_on_validation() -> None:
    table = drawn_images(300)
    members = [
        make_run("good in test", table, worsened(table, 9)),
        make_run("good in validation", worsened(table, 20), worsened(table, 3)),
        make_run("alike", table, worsened(table, 3)),
    ]
    assert best_member(members).name == "good in validation"


class TestGreedy:
    """Forward selection with replacement, by log loss on validation."""

    def test_a_useless_member_is_left_out(self) -> None:
        members = [make_member("good", 1, 2.5), make_member("useless", 2, -1), make_member("also good", 3, 2.5)]
        first, useless, third = select(members)
        assert useless == 0
        assert min(first, third) > 0

    def test_a_better_member_is_picked_again_until_a_weak_one_helps(self) -> None:
        members = [make_member("weak", 1, 2), make_member("strong", 2, 2.5)]
        weak, strong = select(members)
        assert 0 < weak < strong
        # the second pick alone lowers nothing
        assert validation_loss(members, [weak, strong]) < validation_loss(members, [0, 1])
        assert validation_loss(members, [0, 1]) < validation_loss(members, [1, 1])

    def test_it_begins_with_the_best_and_no_fewer_picks_have_a_lower_loss(self) -> None:
        members = [make_member(name, seed, 2 + seed / 4) for seed, name in enumerate("abcd")]
        losses = [validation_loss(members, [*pick]) for pick in np.eye(4, dtype=int)]
        assert select(members, picks=1) == [int(value == min(losses)) for value in losses]
        fewer = [validation_loss(members, select(members, picks)) for picks in range(1, 13)]
        assert fewer == sorted(fewer, reverse=True)
        assert fewer[-1] < fewer[0]
        assert sum(select(members, picks=3)) <= 3

    def test_of_equal_members_the_first_is_picked_and_no_other(self) -> None:
        assert select([make_member(name, seed=1) for name in "abc"]) == [1, 0, 0]

    def test_test_images_have_no_say(self) -> None:
        members = [make_member("a", 1, 2), make_member("b", 2, 2.5)]
        swapped = [
            make_run(one.name, other.test, one.validation)
            for one, other in zip(members, reversed(members), strict=True)
        ]
        assert select(members) == select(swapped)

    def test_the_exponent_has_no_say(self) -> None:
        members = [make_member("a", 1, 2), make_member("b", 2, 2.5)]
        balanced = [
            make_run(member.name, member.test, member.validation, prior=SHARES, exponent=0.5) for member in members
        ]
        assert select(members) == select(balanced)


class TestRequireMembers:
    """Only what was validated and tested on the same images is combined."""

    @pytest.mark.parametrize(
        ("cut", "message"), [((0, 9), "validated on different"), ((9, 0), "tested on different images, 300 and 291")]
    )
    def test_other_images_of_any_member_are_refused(self, cut: tuple[int, int], message: str) -> None:
        table = drawn_images(300)
        others = make_run("c", table[cut[0] :], table[cut[1] :])
        with pytest.raises(DataError, match=message) as error:
            require_members([make_run("a", table), make_run("b", table), others])
        assert str(error.value).startswith("a and c cannot be compared: ")
        assert "\n" not in str(error.value)

    def test_the_same_images_pass(self) -> None:
        require_members([make_member("a", 1), make_member("b", 2), make_member("c", 3)])
