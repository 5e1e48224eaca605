-- Delete old events from Dagster's storage. Kept are runs with their tags and keys, and the latest materialization, check
-- and failed attempt of each partition, on which the UI and the sensors rely.
-- name: forget_details
-- Log messages of steps. Events about assets and the state of a run have other types and are kept.
DELETE FROM event_logs
WHERE timestamp < now() AT TIME ZONE 'UTC' - %(age)s::interval
  AND (dagster_event_type IS NULL OR dagster_event_type IN (
      'ENGINE_EVENT', 'HANDLED_OUTPUT', 'LOADED_INPUT', 'LOGS_CAPTURED', 'RESOURCE_INIT_STARTED',
      'RESOURCE_INIT_SUCCESS', 'STEP_INPUT', 'STEP_OUTPUT', 'STEP_START', 'STEP_SUCCESS', 'STEP_WORKER_STARTED',
      'STEP_WORKER_STARTING', 'ASSET_CHECK_EVALUATION_PLANNED'))

-- name: forget_plans
-- Planned materializations. One without a result shows its day as failed, so the latest is kept until the day is
-- materialized. Those without a partition may be for a range of days and are kept: there is one per run.
DELETE FROM event_logs AS planned
WHERE planned.dagster_event_type = 'ASSET_MATERIALIZATION_PLANNED'
  AND planned.timestamp < now() AT TIME ZONE 'UTC' - %(age)s::interval
  AND EXISTS (SELECT FROM event_logs AS later
              WHERE later.asset_key = planned.asset_key AND later.partition = planned.partition
                AND later.dagster_event_type IN ('ASSET_MATERIALIZATION', 'ASSET_MATERIALIZATION_PLANNED')
                AND later.id > planned.id)

-- name: forget_materializations
-- Materializations that are older than another one of the same day. raw.fetch keeps the history of a day.
DELETE FROM event_logs AS former
WHERE former.dagster_event_type = 'ASSET_MATERIALIZATION'
  AND former.timestamp < now() AT TIME ZONE 'UTC' - %(age)s::interval
  AND EXISTS (SELECT FROM event_logs AS later
              WHERE later.asset_key = former.asset_key AND later.partition IS NOT DISTINCT FROM former.partition
                AND later.dagster_event_type = 'ASSET_MATERIALIZATION' AND later.id > former.id)

-- name: forget_charts
-- Each refresh of the charts is 150 kB, and only the latest is shown. The last one of each day is kept until it is
-- old, because its totals are plotted.
DELETE FROM event_logs AS former
WHERE former.dagster_event_type = 'ASSET_MATERIALIZATION' AND former.asset_key = '["reports", "sales_overview"]'
  AND former.timestamp < now() AT TIME ZONE 'UTC' - interval '1 day'
  AND EXISTS (SELECT FROM event_logs AS later
              WHERE later.asset_key = former.asset_key AND later.dagster_event_type = 'ASSET_MATERIALIZATION'
                AND later.timestamp::date = former.timestamp::date AND later.id > former.id)

-- name: forget_tags
DELETE FROM asset_event_tags AS t
WHERE t.event_timestamp < now() AT TIME ZONE 'UTC' - %(age)s::interval
  AND NOT EXISTS (SELECT FROM event_logs AS e WHERE e.id = t.event_id)

-- name: forget_checks
DELETE FROM asset_check_executions AS former
WHERE former.create_timestamp < now() AT TIME ZONE 'UTC' - %(age)s::interval
  AND EXISTS (SELECT FROM asset_check_executions AS later
              WHERE later.asset_key = former.asset_key AND later.check_name = former.check_name
                AND later.partition IS NOT DISTINCT FROM former.partition
                AND later.execution_status <> 'PLANNED' AND later.id > former.id)

-- name: forget_evaluations
DELETE FROM event_logs AS e
WHERE e.dagster_event_type = 'ASSET_CHECK_EVALUATION'
  AND e.timestamp < now() AT TIME ZONE 'UTC' - %(age)s::interval
  AND NOT EXISTS (SELECT FROM asset_check_executions AS c WHERE c.evaluation_event_storage_id = e.id)
