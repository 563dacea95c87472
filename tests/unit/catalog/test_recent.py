"""The bounded map of what was used last."""

from pandawn_server.catalog.recent import Recent


def test_what_was_unused_for_longest_goes_first() -> None:
    recent: Recent[str, int] = Recent(3)
    for number, key in enumerate("abc"):
        recent.put(key, number)
    assert recent.get("a") == 0
    recent.put("d", 3)
    assert [recent.get(key) for key in "abcd"] == [0, None, 2, 3]


def test_the_total_cost_stays_within_its_bound() -> None:
    recent: Recent[str, int] = Recent(10)
    recent.put("a", 1, cost=6)
    recent.put("b", 2, cost=4)
    recent.put("a", 3, cost=5)
    assert (recent.get("a"), recent.get("b")) == (3, 2)
    recent.put("c", 4, cost=6)
    assert (recent.get("a"), recent.get("b"), recent.get("c")) == (None, 2, 4)


def test_a_value_above_the_bound_is_not_kept_and_replaces_the_one_before() -> None:
    recent: Recent[str, int] = Recent(10)
    recent.put("a", 1)
    recent.put("a", 2, cost=11)
    assert recent.get("a") is None


def test_a_dropped_key_frees_its_cost() -> None:
    recent: Recent[str, int] = Recent(2)
    recent.put("a", 1)
    recent.drop("a")
    recent.drop("a")
    recent.put("b", 2)
    recent.put("c", 3)
    assert (recent.get("a"), recent.get("b"), recent.get("c")) == (None, 2, 3)
