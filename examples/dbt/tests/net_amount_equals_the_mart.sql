-- Fails if the report and the mart have different totals.
select report.total as report_total, mart.total as mart_total
from (select sum(net_amount) as total from {{ ref('sales_by_city_and_month') }}) as report
cross join (select sum(amount) as total from {{ source('mart', 'f_sales') }}) as mart
where report.total is distinct from mart.total
