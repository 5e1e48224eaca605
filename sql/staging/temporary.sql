-- The temporary tables of a reading are dropped one by one: a transaction may read several groups of fetches.

-- name: drop_landing
DROP TABLE IF EXISTS landing

-- name: drop_settled
DROP TABLE IF EXISTS settled

-- name: drop_conflict
DROP TABLE IF EXISTS conflict

-- name: drop_bad_line
DROP TABLE IF EXISTS bad_line

-- name: drop_chosen_day
DROP TABLE IF EXISTS chosen_day
