# SPDX-License-Identifier: Apache-2.0
"""registry.py - cases register themselves with a decorator.

    @case("P", "every request answered; hits again within 3 s")
    def r79_redis_states():
        ...

The number comes from the function's name, group and title from tests/load/battery.py.  Schedules:
P every change, N nightly, W weekly.  A case raises AssertionError to fail and Skip to be skipped; what
it returns, if anything, is a short note with figures.
"""
CASES = []


class Case:
    def __init__(self, function, schedule, passes):
        self.function, self.schedule, self.passes = function, schedule, passes
        self.name = function.__name__
        self.number = int(self.name[1:].split("_")[0])


def case(schedule, passes):
    assert schedule in "PNW" and passes

    def register(function):
        CASES.append(Case(function, schedule, passes))
        return function

    return register
