-- Refunded rows are not above zero, shipped rows not below.
select id, status, quantity, amount
from {{ ref('f_sales') }}
where case status when 'refunded' then quantity <= 0 and amount <= 0 else quantity >= 0 and amount >= 0 end is not true
