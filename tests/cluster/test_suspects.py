"""Nodes on which trainings fail again and again get no more of them."""

from cluster.suspects import Suspects

BOTH = frozenset("ab")


def test_a_training_goes_elsewhere_after_it_failed() -> None:
    seen = Suspects()
    seen.failed(0, "a")
    assert seen.to_avoid(0, BOTH) == {"a"}
    assert seen.to_avoid(1, BOTH) == set(), "one failure is no pattern"
    assert seen.to_avoid(0, frozenset("a")) == set(), "there is no other node"
    assert seen.to_avoid(0, frozenset("bc")) == set(), "it is gone"


def test_a_crash_makes_a_node_bad_for_that_training_only() -> None:
    seen = Suspects()
    for index in range(3):
        seen.crashed(index, "a")
    assert seen.to_avoid(0, BOTH) == {"a"}
    assert seen.to_avoid(7, BOTH) == set(), "it may have been the trainings' own doing"


def test_a_node_that_fails_again_and_again_is_avoided_by_all_until_one_ends_well() -> None:
    seen = Suspects()
    for index in range(2):
        seen.failed(index, "a")
    assert seen.to_avoid(7, BOTH) == {"a"}
    seen.finished("a")
    assert seen.to_avoid(7, BOTH) == set()
    for index, node in enumerate("aabb"):
        seen.failed(index, node)
    assert seen.to_avoid(7, BOTH) == set(), "where all are bad the training is"


def test_an_unknown_node_is_none() -> None:
    seen = Suspects()
    for index in range(3):
        seen.failed(index, "")
    assert seen.to_avoid(0, BOTH) == set()
