{{ config(severity='warn') }}
select uniq_id
from {{ ref('orders') }}
group by uniq_id
having min(date_id) <> max(date_id)
