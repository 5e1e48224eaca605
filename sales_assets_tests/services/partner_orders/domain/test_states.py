"""State machine of orders: the evidence that resolves an unresolved state, and how long states are watched."""

import datetime as dt
import itertools

import pytest

from sales_assets.services.partner_orders.domain.states import (
    ANNOUNCED,
    AT_PARTNER,
    FROM_CLAIM_HOLDER,
    IN_CALL,
    INITIAL,
    TRANSITIONS,
    UNRESOLVED,
    Evidence,
    State,
    watch_periods,
)

# Evidence that the partner shows about the order itself; all other evidence is about a call of this service.
SHOWN_BY_PARTNER = {
    Evidence.FOUND,
    Evidence.SEEN_OPEN,
    Evidence.SEEN_DONE,
    Evidence.SEEN_CANCELLED,
    Evidence.ABSENT_FOR_LONG,
    Evidence.OPEN_FOR_LONG,
}
PAIRS = list(itertools.product(Evidence, State))


def after(state: State, *evidence: Evidence) -> State:
    for one in evidence:
        state = TRANSITIONS[one].get(state, state)
    return state


def test_every_evidence_has_transitions() -> None:
    assert set(TRANSITIONS) == set(Evidence)


@pytest.mark.parametrize(("evidence", "state"), PAIRS)
def test_only_evidence_from_the_partner_leaves_an_unresolved_state(evidence: Evidence, state: State) -> None:
    if state in UNRESOLVED and after(state, evidence) != state:
        assert evidence in SHOWN_BY_PARTNER


@pytest.mark.parametrize(("evidence", "state"), PAIRS)
def test_an_order_at_the_partner_stays_there(evidence: Evidence, state: State) -> None:
    if state in AT_PARTNER:
        assert after(state, evidence) in AT_PARTNER


@pytest.mark.parametrize("evidence", Evidence)
def test_cancelled_is_final(evidence: Evidence) -> None:
    assert after(State.CANCELLED, evidence) == State.CANCELLED


@pytest.mark.parametrize("call", sorted(IN_CALL))
@pytest.mark.parametrize("evidence", sorted(FROM_CLAIM_HOLDER))
def test_unanswered_or_abandoned_call_leaves_the_order_unresolved(call: State, evidence: Evidence) -> None:
    unanswered = {State.CREATING: Evidence.CREATE_UNANSWERED, State.CANCELLING: Evidence.CANCEL_UNANSWERED}[call]
    assert after(call, unanswered) in UNRESOLVED
    assert after(call, Evidence.CALL_ABANDONED) in UNRESOLVED
    # The result of a later attempt does not resolve an earlier unanswered call.
    assert after(call, unanswered, Evidence.CREATE_BEGUN, Evidence.CANCEL_BEGUN, evidence) in UNRESOLVED


def test_every_state_is_reachable_and_three_are_announced() -> None:
    reached = {INITIAL, *(state for moves in TRANSITIONS.values() for state in moves.values())}
    assert reached == set(State)
    assert set(ANNOUNCED) == {State.ACCEPTED, State.DONE, State.CANCELLED}


def test_watch_period_of_each_state() -> None:
    day, hours = dt.timedelta(hours=24), dt.timedelta(hours=6)
    unresolved = dict.fromkeys((State.CREATING, State.CANCELLING, State.UNKNOWN, State.CANCEL_UNKNOWN), day)
    assert watch_periods(hours) == unresolved | {State.ACCEPTED: hours}
    assert watch_periods(dt.timedelta()) == unresolved
