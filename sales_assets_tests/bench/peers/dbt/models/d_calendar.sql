select to_char(day, 'YYYYMMDD')::integer as date_id, day::date as date_actual
from (
    select to_date(min(date_id)::text, 'YYYYMMDD') as first, to_date(max(date_id)::text, 'YYYYMMDD') as last
    from {{ ref('orders') }}
) as days
cross join generate_series(first::timestamp, last::timestamp, interval '1 day') as day
