"""Failures of the order operations, with the result and HTTP status that both versions of the interface report."""


class OrderError(Exception):
    """An operation failed; the message is for callers and holds no personal data."""

    result = "transient_error"
    status_code = 200


class ServiceError(OrderError):
    """The database is unavailable, or no partner is configured."""

    status_code = 503


class OtherBody(OrderError):
    """The order_id belongs to an order with a different body, which stays unchanged."""

    result = "order_rejected"
    status_code = 409


class StatusUnavailable(OrderError):
    """The partner did not return a status, or has no such order."""


class CancelRejected(OrderError):
    """The partner refuses to cancel the order."""

    result = "order_cancel_rejected"


class CancelFailed(OrderError):
    """The cancellation was neither confirmed nor finally refused."""
