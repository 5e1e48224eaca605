"""State of the alerts: one message per cause and one at its end, to each receiver that is reachable."""

import datetime as dt

from sales_assets.defs.automation.alert_state import Cause, State
from sales_assets.resources.alert_receivers import Delivery

NOW = dt.datetime(2024, 10, 2, 9, tzinfo=dt.UTC)
DOWN = Delivery(0, "refused")


def cause(key: str, group: str = "g", first: int = 0, last: int = 0) -> Cause:
    days = [(dt.date(2024, 10, first), dt.date(2024, 10, last))] if first else []
    return Cause(
        key=key, group=group, title=f"{key} is wrong", plural="things are wrong", text="why", ended="well", days=days
    )


def tick(state: State, minutes: int, *names: str, down: str = "") -> dict[str, list[str]]:
    """Send the pending messages; return their titles by receiver, even if the receiver is unreachable."""
    now = NOW + dt.timedelta(minutes=minutes)
    outbox = state.messages({name: f"1 ({name})" for name in names}, now, "http://ui")
    sent = outbox.to_send()
    state.record(outbox, {name: DOWN if name == down else Delivery(len(of)) for name, of in sent.items()}, now)
    return {name: [message.title.removeprefix("sales_assets, ") for message in of] for name, of in sent.items()}


def test_each_cause_opens_once_and_ends_once() -> None:
    state = State()
    for minutes in range(3):
        state.add(cause("a"), NOW)
        assert tick(state, minutes, "x") == ({} if minutes else {"x": ["alert: a is wrong"]})
    state = State.model_validate_json(state.model_dump_json())
    state.remove_days(state.open["a"], None, NOW)
    assert tick(state, 3, "x") == {"x": ["resolved: a is wrong"]}
    assert tick(state, 4, "x") == {}
    assert state.alerts == []
    state.add(cause("a"), NOW)
    assert tick(state, 5, "x") == {"x": ["alert: a is wrong"]}


def test_new_causes_of_a_group_share_a_message() -> None:
    state = State()
    for key in "abc":
        state.add(cause(key, "runs" if key < "c" else "checks"), NOW)
    outbox = state.messages({"x": "1 (x)"}, NOW, "http://ui")
    both, one = outbox.to_send()["x"]
    assert both.title == "sales_assets, alert: 2 things are wrong"
    assert both.text.splitlines()[0] == "- a is wrong"
    assert one.title == "sales_assets, alert: c is wrong"
    assert one.text == "why\nSince 2024-10-02 09:00 UTC."


def test_an_alert_ends_with_its_last_day() -> None:
    state = State()
    state.add(cause("a", first=1, last=5), NOW)
    state.add(cause("a", first=6, last=9), NOW)
    assert state.open["a"].cause.days == [(dt.date(2024, 10, 1), dt.date(2024, 10, 9))]
    state.remove_days(state.open["a"], [(dt.date(2024, 10, 2), dt.date(2024, 10, 31))], NOW)
    assert state.open["a"].cause.days == [(dt.date(2024, 10, 1), dt.date(2024, 10, 1))]
    state.remove_days(state.open["a"], [(dt.date(2024, 9, 1), dt.date(2024, 10, 1))], NOW)
    assert state.open == {}


def test_an_unreachable_receiver_is_retried_with_growing_pauses_and_delays_no_other() -> None:
    state = State()
    state.add(cause("a"), NOW)
    assert tick(state, 0, "x", "y", down="y") == {"x": ["alert: a is wrong"], "y": ["alert: a is wrong"]}
    sent_minutes = [minutes for minutes in range(1, 300) if tick(state, minutes, "x", "y", down="y")]
    assert sent_minutes == [1, 3, 7, 15, 31, 63, 123, 183, 243]
    state.add(cause("b", "other"), NOW)
    assert tick(state, 300, "x", "y", down="y") == {"x": ["alert: b is wrong"]}
    assert tick(state, 303, "x", "y") == {"y": ["alert: a is wrong", "alert: b is wrong"]}
    assert state.receivers["y"].failures == 0


def test_the_end_of_an_alert_is_sent_to_a_receiver_that_was_unreachable_before() -> None:
    state = State()
    state.add(cause("a"), NOW)
    tick(state, 0, "x", "y", down="y")
    state.replace([], ["g"], NOW)
    assert tick(state, 1, "x", "y") == {"x": ["resolved: a is wrong"], "y": ["resolved: a is wrong"]}
    assert state.alerts == []


def test_only_the_failed_message_is_sent_again() -> None:
    state = State()
    for key in "ab":
        state.add(cause(key, key), NOW)
    outbox = state.messages({"x": "1 (x)"}, NOW, "")
    state.record(outbox, {"x": Delivery(1, "refused")}, NOW)
    assert tick(state, 1, "x") == {"x": ["alert: b is wrong"]}


def test_a_new_receiver_gets_open_alerts_and_a_removed_one_delays_nothing() -> None:
    state = State()
    state.add(cause("a"), NOW)
    state.add(cause("b", "other"), NOW)
    tick(state, 0, "x", "y", down="y")
    state.replace([], ["other"], NOW)
    assert tick(state, 1, "x", "z") == {"x": ["resolved: b is wrong"], "z": ["alert: a is wrong"]}
    assert list(state.receivers) == ["x", "z"]
    assert [alert.cause.key for alert in state.alerts] == ["a"]


def test_the_state_is_bounded() -> None:
    state = State()
    for number in range(500):
        state.add(cause(f"a{number}", f"g{number}"), NOW)
        state.replace([], [f"g{number}"], NOW)
        tick(state, number, "x", down="x")
    assert len(state.alerts) == 100
    assert state.alerts[-1].cause.key == "a499"


def test_an_expired_cause_is_closed_and_not_resolved() -> None:
    """An expired cause opens no new alert; a cause that disappeared is resolved."""
    state = State()
    state.replace([cause("a"), cause("b")], ["g"], NOW)
    tick(state, 0, "x")
    state.replace([cause("a").model_copy(update={"is_over": True})], ["g"], NOW)
    assert tick(state, 1, "x") == {"x": ["closed: a is wrong", "resolved: b is wrong"]}
    state.replace([cause("a").model_copy(update={"is_over": True})], ["g"], NOW)
    assert tick(state, 2, "x") == {}
    assert state.alerts == []


def test_receivers_in_a_cursor_of_the_former_format_get_no_message_twice() -> None:
    """The former format identified receivers by name; a failed receiver keeps its pause."""
    state = State()
    state.add(cause("a"), NOW)
    former = {"1 (json)": "1 (json)", "2 (slack)": "2 (slack)"}
    outbox = state.messages(former, NOW, "")
    state.record(outbox, {"1 (json)": Delivery(1), "2 (slack)": DOWN}, NOW)
    state = State.model_validate_json(state.model_dump_json(exclude={"salt"}))
    identities = {"json ab": "1 (json)", "slack cd": "2 (slack)"}
    assert state.messages(identities, NOW, "").to_send() == {}
    assert [(one, of.name, of.failures) for one, of in state.receivers.items()] == [
        ("json ab", "1 (json)", 0),
        ("slack cd", "2 (slack)", 1),
    ]
    assert list(state.messages(identities, NOW + dt.timedelta(minutes=1), "").to_send()) == ["slack cd"]
