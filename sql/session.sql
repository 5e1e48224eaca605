-- The state of every session of the platform. Roles, databases, connection services and PG* variables have a say in
-- what a session is; here it is decided for good, by the first statement of each connection. Settings that change
-- neither results nor durability (work_mem, enable_*, jit) stay as they were found.

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
            -- How values are written and read.
            ('DateStyle',                           'ISO, YMD'),
            ('IntervalStyle',                       'postgres'),
            ('TimeZone',                            'UTC'),
            ('timezone_abbreviations',              'Default'),
            ('extra_float_digits',                  '1'),
            ('bytea_output',                        'hex'),
            ('array_nulls',                         'on'),
            ('xmloption',                           'content'),
            -- How statements are understood.
            ('standard_conforming_strings',         'on'),
            ('backslash_quote',                     'safe_encoding'),
            ('transform_null_equals',               'off'),
            ('quote_all_identifiers',               'off'),
            ('search_path',                         coalesce(%(search_path)s::text, current_setting('search_path'))),
            ('check_function_bodies',               'on'),
            -- Off: a policy that hides rows raises an error, instead of a day being summed without them.
            ('row_security',                        'off'),
            ('exit_on_error',                       'off'),
            -- Transactions, and how long they may take. A session that hangs in one must not block all others.
            ('default_transaction_isolation',       'read committed'),
            ('default_transaction_deferrable',      'off'),
            ('statement_timeout',                   %(statement_timeout)s::text),
            ('lock_timeout',                        %(lock_timeout)s::text),
            ('transaction_timeout',                 '0'),
            ('idle_in_transaction_session_timeout', '1h'),
            ('idle_session_timeout',                '0'),
            -- What was reported as stored must survive a power cut; replication levels stay the administrator's.
            ('synchronous_commit',                  CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
                                                    ELSE current_setting('synchronous_commit') END)
        ) AS pinned (name, value)
        -- Not every release knows them all.
        WHERE current_setting(name, true) IS NOT NULL)               AS pinned;

-- name: rename
SELECT set_config('application_name', %(purpose)s, false)
