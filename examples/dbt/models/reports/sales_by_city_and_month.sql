-- Refunded rows are negative, so that sums are net.
select
    date_trunc('month', calendar.date_actual)::date                        as month,
    sales.city_id,
    city.city_name,
    count(distinct sales.customer_id)                                      as customers,
    coalesce(sum(sales.amount) filter (where sales.status = 'shipped'), 0)   as shipped_amount,
    coalesce(-sum(sales.amount) filter (where sales.status = 'refunded'), 0) as refunded_amount,
    sum(sales.amount)                                                      as net_amount
from {{ source('mart', 'f_sales') }} as sales
join {{ source('mart', 'd_calendar') }} as calendar using (date_id)
join {{ source('mart', 'd_city') }} as city using (city_id)
group by 1, 2, 3
