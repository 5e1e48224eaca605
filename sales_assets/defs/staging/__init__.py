"""Lines, typed, a line once: the airlock. What breaks a rule stays here in quarantine and never reaches the mart."""
