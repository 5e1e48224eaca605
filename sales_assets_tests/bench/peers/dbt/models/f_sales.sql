{{ config(indexes=[{'columns': ['id'], 'unique': true}, {'columns': ['date_id'], 'type': 'brin'}]) }}
select row_number() over ()::integer as id,
       date_id,
       item_id,
       customer_id,
       city_id,
       case status when 'refunded' then -quantity else quantity end as quantity,
       case status when 'refunded' then -payment_amount else payment_amount end as amount,
       status,
       'report_api' as source
from {{ ref('orders') }}
