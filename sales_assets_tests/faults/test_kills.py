"""`kill -9` of the process that loads: no day is half there, and one more run makes it right.

A few moments here; `make torture` has a hundred and more.
"""

from sales_assets_tests.faults.victims import World, moments, suffer


def test_a_load_killed_anywhere_leaves_whole_days_and_is_healed_by_one_more(world: World) -> None:
    killed = [suffer(world, moment) for moment in moments(seed=7, number=4, points=world.points)]
    assert sum(killed) >= 2, "moments that come too late show nothing"
