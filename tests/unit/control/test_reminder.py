from __future__ import annotations

from control.reminder import REMIND_S, Reminder


def test_a_warning_is_said_once_a_day_while_it_holds() -> None:
    """At once, after a day, and at once again when it had gone."""
    said: list[str] = []
    reminder = Reminder(said.append)
    start = 1_800_000_000.0
    for now, warnings, expected in (
        (start, ["a"], ["a"]),
        (start + 1, ["a", "b"], ["a", "b"]),
        (start + REMIND_S - 1, ["a", "b"], ["a", "b"]),
        (start + REMIND_S, ["a", "b"], ["a", "b", "a"]),
        (start + REMIND_S + 1, [], ["a", "b", "a"]),
        (start + REMIND_S + 2, ["b"], ["a", "b", "a", "b"]),
    ):
        reminder.remind(warnings, now)
        assert said == expected
