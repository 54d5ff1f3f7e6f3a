"""How the state machines are run."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import Phase, seed, settings, stateful
from hypothesis.stateful import RuleBasedStateMachine

from helpers.stress_rounds import Stress

# some releases have no types for it
run_state_machine_as_test: Callable[..., None] = stateful.run_state_machine_as_test


def run_machine(
    stress: Stress, machine: type[RuleBasedStateMachine], *, short: int, long: int
) -> None:
    """Run a state machine many times: the same way each time in the short run."""
    many = long if stress.seconds else short
    run_state_machine_as_test(
        seed(stress.seed)(machine),
        settings=settings(
            max_examples=many, stateful_step_count=25, deadline=None, database=None
        ),
    )
    stress.count(f"runs_{machine.__name__}", many)


def find_failure(machine: type[RuleBasedStateMachine]) -> None:
    """Run a state machine that is to fail; raise its failure as it is found."""
    run_state_machine_as_test(
        seed(0)(machine),
        settings=settings(
            max_examples=300,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            report_multiple_bugs=False,
        ),
    )
