"""Failures of the order operations, as callers are told about them."""


class OrderError(Exception):
    """A failure that callers are told; the message holds no personal data."""


class ServiceError(OrderError):
    """Our own fault: the database is away, or no partner is configured."""


class OtherBody(OrderError):
    """The order_id is taken by an order with another body, which stays as it is."""


class StatusUnavailable(OrderError):
    """The partner could not be asked, or knows no such order."""


class CancelRejected(OrderError):
    """The partner does not cancel the order."""


class CancelFailed(OrderError):
    """The order is not known to be cancelled, and the partner did not refuse for good."""
