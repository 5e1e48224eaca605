-- Session settings of the platform: the first statement of each connection, which overrides those of roles, databases,
-- connection services and PG* variables. Settings that change neither results nor durability (work_mem, enable_*, jit)
-- are left alone.

-- name: pin
SELECT current_database()                                            AS database,
       current_user                                                  AS role,
       current_setting('server_encoding')                            AS encoding,
       current_setting('default_transaction_read_only')::boolean     AS read_only,
       pg_is_in_recovery()                                           AS standby,
       current_setting('session_replication_role') <> 'origin'       AS without_triggers,
       (SELECT count(pg_catalog.set_config(name, value, false))
        FROM (VALUES
            -- Text: binary COPY and the drivers send UTF-8.
            ('client_encoding',                     'UTF8'),
            -- Format of values.
            ('DateStyle',                           'ISO, YMD'),
            ('IntervalStyle',                       'postgres'),
            ('TimeZone',                            'UTC'),
            ('timezone_abbreviations',              'Default'),
            ('extra_float_digits',                  '1'),
            ('bytea_output',                        'hex'),
            ('array_nulls',                         'on'),
            ('xmloption',                           'content'),
            -- Interpretation of statements.
            ('standard_conforming_strings',         'on'),
            ('backslash_quote',                     'safe_encoding'),
            ('transform_null_equals',               'off'),
            ('quote_all_identifiers',               'off'),
            ('search_path',                         coalesce(%(search_path)s::text, current_setting('search_path'))),
            ('check_function_bodies',               'on'),
            -- Off: a policy that hides rows raises an error, instead of silently changing the sums of a day.
            ('row_security',                        'off'),
            ('exit_on_error',                       'off'),
            -- Transactions and their timeouts: a session that hangs in one must not block all others.
            ('default_transaction_isolation',       'read committed'),
            ('default_transaction_deferrable',      'off'),
            ('statement_timeout',                   %(statement_timeout)s::text),
            ('lock_timeout',                        %(lock_timeout)s::text),
            ('transaction_timeout',                 '0'),
            ('idle_in_transaction_session_timeout', '1h'),
            ('idle_session_timeout',                '0'),
            -- The server ends the session of a machine that vanished, with its locks, after a minute instead of two hours.
            ('tcp_keepalives_idle',                 '30'),
            ('tcp_keepalives_interval',             '10'),
            ('tcp_keepalives_count',                '3'),
            -- Committed data must survive a power cut; replication levels are up to the administrator.
            ('synchronous_commit',                  CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
                                                    ELSE current_setting('synchronous_commit') END)
        ) AS pinned (name, value)
        -- Some settings don't exist in every release.
        WHERE current_setting(name, true) IS NOT NULL)               AS pinned;

-- name: rename
SELECT set_config('application_name', %(purpose)s, false)

-- name: probe
SELECT pg_try_advisory_lock(%(key)s) AS acquired
