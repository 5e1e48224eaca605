-- The latest name by event time, then by line; an empty one only where there is no other. Names are few: grouping comes
-- first, which leaves little to sort (all the rows sorted by themselves take ten times as long).
{% macro latest_name(key, names) %}
{% set columns = ([key] + names) | join(', ') %}
with named as (
    select {{ columns }}, date_time, max(line_no) as line_no
    from {{ ref('orders') }}
    group by {{ columns }}, date_time
)
select distinct on ({{ key }}) {{ columns }}
from named
order by {{ key }}, {{ names | join(' || ') }} <> '' desc, date_time desc, line_no desc
{% endmacro %}
