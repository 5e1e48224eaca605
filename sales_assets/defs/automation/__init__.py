"""What sets the assets off: jobs, schedules, and a module per sensor. Does not belong here: how anything is loaded."""
