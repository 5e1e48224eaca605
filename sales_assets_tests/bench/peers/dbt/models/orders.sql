-- Each key once. Copies that say the same are one row; if they differ, none of them counts.
{% set contents = ['date_time', 'city_id', 'city_name', 'customer_id', 'first_name', 'last_name', 'item_id', 'item_name',
                   'quantity', 'payment_amount'] %}
with lines as (
    select *,
           replace(left(date_time, 10), '-', '')::integer as date_id,
           coalesce(nullif(lower(trim(status)), ''), 'shipped') as known_status
    from {{ source('raw', 'user_orders_log') }}
)
select date_id,
       uniq_id,
       known_status as status,
       {% for column in contents %}
       min({{ column }}) as {{ column }},
       {% endfor %}
       max(id) as line_no
from lines
group by date_id, uniq_id, known_status
having {% for column in contents %}
       min({{ column }}) = max({{ column }}) {{ 'and' if not loop.last }}
       {% endfor %}
