"""Which class is predicted, by hand."""

import numpy as np
import pytest

from dermoscopy.model.decision import adjust, choose_class

PROBABILITIES = [[0.2, 0.8], [0.05, 0.95], [0.5, 0.5]]
PRIOR = [0.1, 0.9]


def test_adjusted_probabilities_are_those_by_hand() -> None:
    # 0.2 / 0.1 = 2 and 0.8 / 0.9 = 8 / 9, of which 2 is 18 / 26
    assert adjust(PROBABILITIES[:1], PRIOR, 1)[0].tolist() == pytest.approx([18 / 26, 8 / 26])
    assert adjust(PROBABILITIES, PRIOR, 0) == pytest.approx(np.array(PROBABILITIES))


@pytest.mark.parametrize(
    ("exponent", "classes"), [(0, [1, 1, 0]), (0.5, [1, 1, 0]), (0.75, [0, 1, 0]), (1.5, [0, 0, 0]), (-1, [1, 1, 1])]
)
def test_a_larger_exponent_prefers_the_rare_class(exponent: float, classes: list[int]) -> None:
    assert choose_class(PROBABILITIES, PRIOR, exponent).tolist() == classes


def test_a_class_that_was_never_learnt_is_never_predicted() -> None:
    assert choose_class([[0.3, 0.3, 0.4]], [0.5, 0.5, 0], 1).tolist() == [0]
    assert adjust([[0.3, 0.3, 0.4]], [0.5, 0.5, 0], 1)[0].tolist() == pytest.approx([0.5, 0.5, 0])


def test_the_decision_is_the_one_that_is_best_where_classes_are_equally_frequent() -> None:
    # Bayes: dividing by the prior gives the posterior of a world with equal priors
    random = np.random.default_rng(0)
    likelihood = random.random((500, 4))
    prior = np.array([0.7, 0.2, 0.07, 0.03])
    posterior = likelihood * prior / (likelihood * prior).sum(axis=1, keepdims=True)
    assert np.array_equal(choose_class(posterior, prior, 1), likelihood.argmax(axis=1))
