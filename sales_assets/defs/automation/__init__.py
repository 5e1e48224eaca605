"""What sets the assets off: jobs, schedules, sensors. Does not belong here: how anything is loaded."""
