select date_id, uniq_id, status
from {{ ref('orders') }}
group by date_id, uniq_id, status
having count(*) > 1
