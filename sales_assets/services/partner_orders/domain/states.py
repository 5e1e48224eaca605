"""The state machine of a partner order: states, evidence, and the table of allowed transitions. Pure: no I/O.

An order changes its state only through `TRANSITIONS`: the repository hands the table to the database, which applies a
piece of evidence to the state that it finds under the row's lock. A pair that the table lacks changes nothing.

::

    a create      creating -> accepted | rejected | failed | unknown      unknown -> accepted | failed
    a cancel      accepted -> cancelling -> cancelled | accepted | cancel_unknown
                                                          cancel_unknown -> cancelled | done | accepted
    the partner   accepted -> done | cancelled                               done -> cancelled

Two states are unresolved: `unknown` (a create may have reached the partner) and `cancel_unknown` (a cancel may have). A
failed or refused later attempt does not reveal the outcome of the earlier one, so it does not resolve these states. The
order's status at the partner does; so does a whole watch period in which the order is absent there, or still open.

All rules about transitions, announced states and watched states are in this module.
"""

import datetime as dt
from collections.abc import Mapping
from enum import StrEnum
from typing import get_args

from sales_assets.schemas.partner_orders import Kind


class State(StrEnum):
    """State of an order, as far as it is known."""

    CREATING = "creating"  # a create is in progress, or its process died; no create was sent before it
    UNKNOWN = "unknown"  # a create may have reached the partner
    FAILED = "failed"  # not at the partner; the same request tries again
    REJECTED = "rejected"  # the partner refused its items; the answer is stored
    ACCEPTED = "accepted"  # the partner has it, and it is open
    CANCELLING = "cancelling"  # a cancel is in progress, or its process died; no other cancel is unresolved
    CANCEL_UNKNOWN = "cancel_unknown"  # a cancel may have reached the partner
    DONE = "done"  # handed out to the client
    CANCELLED = "cancelled"  # final


INITIAL = State.CREATING
UNRESOLVED = frozenset({State.UNKNOWN, State.CANCEL_UNKNOWN})
IN_CALL = frozenset({State.CREATING, State.CANCELLING})
# The partner is known to have the order; a repeated request for it succeeds.
AT_PARTNER = frozenset({State.ACCEPTED, State.CANCELLING, State.CANCEL_UNKNOWN, State.DONE, State.CANCELLED})


class Evidence(StrEnum):
    """Observation that can change the state of an order."""

    # A call of ours is about to be sent; its process holds the order's claim until the outcome is stored.
    CREATE_BEGUN = "create_begun"
    CANCEL_BEGUN = "cancel_begun"
    CALL_ABANDONED = "call_abandoned"  # the claim lapsed: the process died during its call

    # The outcome of that call, from the process that holds the claim. "Not done" is about this call only: the partner
    # was not reached, or refused. "Unanswered" is any attempt that may have been carried out, not only the last.
    CREATE_REFUSED = "create_refused"  # for the order's items: a final answer
    CREATE_NOT_DONE = "create_not_done"
    CREATE_UNANSWERED = "create_unanswered"
    CANCEL_NOT_DONE = "cancel_not_done"
    CANCEL_UNANSWERED = "cancel_unanswered"

    # Status at the partner, from any call.
    FOUND = "found"  # a create was answered with the order's id, or a search lists it
    SEEN_OPEN = "seen_open"  # its status is neither done nor cancelled
    SEEN_DONE = "seen_done"
    SEEN_CANCELLED = "seen_cancelled"  # its status, or the confirmation of a cancel

    # What the partner still shows at the end of the watch period, long after the call.
    ABSENT_FOR_LONG = "absent_for_long"
    OPEN_FOR_LONG = "open_for_long"


TRANSITIONS: Mapping[Evidence, Mapping[State, State]] = {
    # --- creating -------------------------------------------------------------------------------------------------
    Evidence.CREATE_BEGUN: {
        State.FAILED: State.CREATING,
        State.CREATING: State.UNKNOWN,  # taken over from a process that died: its create may have arrived
        State.UNKNOWN: State.UNKNOWN,
    },
    Evidence.CREATE_REFUSED: {
        State.CREATING: State.REJECTED,
        State.UNKNOWN: State.UNKNOWN,
    },
    Evidence.CREATE_NOT_DONE: {
        State.CREATING: State.FAILED,
        State.UNKNOWN: State.UNKNOWN,
    },
    Evidence.CREATE_UNANSWERED: {
        State.CREATING: State.UNKNOWN,
        State.UNKNOWN: State.UNKNOWN,
    },
    Evidence.FOUND: {
        State.CREATING: State.ACCEPTED,
        State.UNKNOWN: State.ACCEPTED,
        State.FAILED: State.ACCEPTED,
        State.REJECTED: State.ACCEPTED,
    },
    Evidence.ABSENT_FOR_LONG: {
        State.UNKNOWN: State.FAILED,
    },
    # --- cancelling -----------------------------------------------------------------------------------------------
    Evidence.CANCEL_BEGUN: {
        State.ACCEPTED: State.CANCELLING,
        State.DONE: State.CANCELLING,  # whether a done order can be cancelled is the partner's decision
        State.CANCELLING: State.CANCEL_UNKNOWN,  # taken over from a process that died: its cancel may have arrived
        State.CANCEL_UNKNOWN: State.CANCEL_UNKNOWN,
    },
    Evidence.CANCEL_NOT_DONE: {
        State.CANCELLING: State.ACCEPTED,
        State.CANCEL_UNKNOWN: State.CANCEL_UNKNOWN,
    },
    Evidence.CANCEL_UNANSWERED: {
        State.CANCELLING: State.CANCEL_UNKNOWN,
        State.CANCEL_UNKNOWN: State.CANCEL_UNKNOWN,
    },
    Evidence.OPEN_FOR_LONG: {
        State.CANCEL_UNKNOWN: State.ACCEPTED,
    },
    # --- what the partner shows -----------------------------------------------------------------------------------
    Evidence.SEEN_OPEN: {
        State.ACCEPTED: State.ACCEPTED,
        State.CANCELLING: State.CANCELLING,
        State.CANCEL_UNKNOWN: State.CANCEL_UNKNOWN,  # the cancel may still be worked on
    },
    Evidence.SEEN_DONE: {
        State.ACCEPTED: State.DONE,
        State.CANCEL_UNKNOWN: State.DONE,
    },
    Evidence.SEEN_CANCELLED: {
        State.ACCEPTED: State.CANCELLED,
        State.CANCELLING: State.CANCELLED,
        State.CANCEL_UNKNOWN: State.CANCELLED,
        State.DONE: State.CANCELLED,
    },
    # --- a process died -------------------------------------------------------------------------------------------
    Evidence.CALL_ABANDONED: {
        State.CREATING: State.UNKNOWN,
        State.CANCELLING: State.CANCEL_UNKNOWN,
    },
}

# Outcomes of a call count only while their process holds the claim: once another process has taken over the order, that
# process's call decides.
FROM_CLAIM_HOLDER = frozenset(
    {
        Evidence.CREATE_REFUSED,
        Evidence.CREATE_NOT_DONE,
        Evidence.CREATE_UNANSWERED,
        Evidence.CANCEL_NOT_DONE,
        Evidence.CANCEL_UNANSWERED,
    }
)
# These count only after the watch period, and while no call is in progress.
AFTER_WATCH = frozenset({Evidence.ABSENT_FOR_LONG, Evidence.OPEN_FOR_LONG})

# Entering one of these states writes the event of the same name, in the same commit; an order has each event once.
ANNOUNCED: tuple[Kind, ...] = get_args(Kind)

# The partner may work on a create or a cancel long after our connection to it broke.
RESOLVE_FOR = dt.timedelta(hours=24)


def watch_periods(poll_open_for: dt.timedelta) -> Mapping[State, dt.timedelta]:
    """Return how long the reconciler watches an order in each state; zero disables polling."""
    periods = dict.fromkeys((*IN_CALL, *UNRESOLVED), RESOLVE_FOR)
    if poll_open_for:
        periods[State.ACCEPTED] = poll_open_for
    return periods
