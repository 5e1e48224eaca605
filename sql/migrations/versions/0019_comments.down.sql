-- The comments stay: they are true of the earlier revision as well, whose own ones must not be lost.
SELECT 1;
