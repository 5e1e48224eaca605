-- Days whose rows, amounts, quantities or keys differ between orders and f_sales, by status.
with staged as (
    select date_id, status, count(*) as rows, sum(item_id + 7::bigint * customer_id + 31::bigint * city_id) as keys,
           sum(case status when 'refunded' then -payment_amount else payment_amount end) as amount,
           sum(case status when 'refunded' then -quantity else quantity end) as quantity
    from {{ ref('orders') }}
    group by date_id, status
), sold as (
    select date_id, status, count(*) as rows, sum(item_id + 7::bigint * customer_id + 31::bigint * city_id) as keys,
           sum(amount) as amount, sum(quantity) as quantity
    from {{ ref('f_sales') }}
    group by date_id, status
)
select *
from staged
full join sold using (date_id, status)
where (staged.rows, staged.keys, staged.amount, staged.quantity)
      is distinct from (sold.rows, sold.keys, sold.amount, sold.quantity)
