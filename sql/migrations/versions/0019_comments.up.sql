-- What each table and column means that no asset describes (sales_assets/defs/column_schemas.py describes the others).
-- docs/reference/tables.md is made from these comments.

COMMENT ON TABLE raw.delivery IS 'Responses of the report API: a row per requested report or increment, never edited.';
COMMENT ON COLUMN raw.delivery.delivery_id IS 'Number of the response';
COMMENT ON COLUMN raw.delivery.kind IS 'report or increment';
COMMENT ON COLUMN raw.delivery.first_day IS 'First day that was requested; of an increment, its day';
COMMENT ON COLUMN raw.delivery.last_day IS 'Last day that was requested; of an increment, its day';
COMMENT ON COLUMN raw.delivery.outcome IS 'delivered, not_found (the API has no increment of the day) or failed';
COMMENT ON COLUMN raw.delivery.reason IS 'Why it was not found or failed, or has no order file';
COMMENT ON COLUMN raw.delivery.report_id IS 'Id of the report at the API';
COMMENT ON COLUMN raw.delivery.increment_id IS 'Id of the increment at the API';
COMMENT ON COLUMN raw.delivery.asked_at IS 'When it was requested';
COMMENT ON COLUMN raw.delivery.run_id IS 'Run of Dagster that requested it';

COMMENT ON TABLE raw.fetch IS
    'Stored raw files: a row per distinct contents of a file. The same contents delivered again are a further row of '
    'raw.file_delivery. Only an erasure replaces path, sha256 and bytes.';
COMMENT ON COLUMN raw.fetch.fetch_id IS 'Number of the raw file';
COMMENT ON COLUMN raw.fetch.delivery_id IS 'First response that had these contents (raw.delivery)';
COMMENT ON COLUMN raw.fetch.file IS 'user_orders_log, custom_research, user_activity_log or price_log';
COMMENT ON COLUMN raw.fetch.kind IS 'report or increment';
COMMENT ON COLUMN raw.fetch.first_day IS 'First day that the file covers';
COMMENT ON COLUMN raw.fetch.last_day IS 'Last day that the file covers';
COMMENT ON COLUMN raw.fetch.url IS 'Link that it was downloaded from, without the signed query';
COMMENT ON COLUMN raw.fetch.path IS 'Where it is stored, relative to the folder or bucket of RAW_FILES_URL';
COMMENT ON COLUMN raw.fetch.sha256 IS 'SHA-256 of the contents';
COMMENT ON COLUMN raw.fetch.bytes IS 'Size of the contents';
COMMENT ON COLUMN raw.fetch.line_count IS 'Line ends in the contents, the header''s among them';
COMMENT ON COLUMN raw.fetch.etag IS 'ETag of the download';
COMMENT ON COLUMN raw.fetch.last_modified IS 'Last-Modified of the download';
COMMENT ON COLUMN raw.fetch.fetched_at IS 'When it was downloaded';

COMMENT ON TABLE raw.file_delivery IS
    'Deliveries of files: a row each time the report API delivered the contents of a raw file. The greatest number '
    'is the latest delivery.';
COMMENT ON COLUMN raw.file_delivery.number IS
    'Number of the delivery; the first one of a raw file has the number of the file';
COMMENT ON COLUMN raw.file_delivery.delivery_id IS 'Response that had the file (raw.delivery)';
COMMENT ON COLUMN raw.file_delivery.fetch_id IS 'Raw file with these contents (raw.fetch)';
COMMENT ON COLUMN raw.file_delivery.url IS 'Link that it was downloaded from, without the signed query';
COMMENT ON COLUMN raw.file_delivery.etag IS 'ETag of the download';
COMMENT ON COLUMN raw.file_delivery.last_modified IS 'Last-Modified of the download';
COMMENT ON COLUMN raw.file_delivery.delivered_at IS 'When it was downloaded';

COMMENT ON TABLE staging.fetch_reading IS
    'Parse results: a row per parsed raw file, with the counts of its lines. A file that failed is never selected.';
COMMENT ON COLUMN staging.fetch_reading.fetch_id IS 'Raw file (raw.fetch)';
COMMENT ON COLUMN staging.fetch_reading.revision IS
    'Number of parses whose resolutions differ; a day staged from an older one is loaded again';
COMMENT ON COLUMN staging.fetch_reading.verdict IS 'usable or failed';
COMMENT ON COLUMN staging.fetch_reading.reason IS 'Why the file can''t be used';
COMMENT ON COLUMN staging.fetch_reading.has_status IS 'Whether the header has the column status';
COMMENT ON COLUMN staging.fetch_reading.extra_columns IS 'Columns of the header that no rule names; they are ignored';
COMMENT ON COLUMN staging.fetch_reading.lines IS 'Data lines: kept, duplicates and rejected ones';
COMMENT ON COLUMN staging.fetch_reading.kept IS 'Valid distinct rows';
COMMENT ON COLUMN staging.fetch_reading.repeats IS 'Duplicates of kept rows';
COMMENT ON COLUMN staging.fetch_reading.bad IS 'Rejected rows';
COMMENT ON COLUMN staging.fetch_reading.before_first_day IS 'Kept rows of days before SALES_FIRST_DAY';
COMMENT ON COLUMN staging.fetch_reading.outside_period IS 'Rejected rows of days outside the period of the file';
COMMENT ON COLUMN staging.fetch_reading.read_at IS 'When it was parsed';
COMMENT ON COLUMN staging.fetch_reading.run_id IS 'Run of Dagster that parsed it';

COMMENT ON TABLE staging.fetch_day IS 'Counts of the lines of a parsed raw file by day.';
COMMENT ON COLUMN staging.fetch_day.fetch_id IS 'Raw file (raw.fetch)';
COMMENT ON COLUMN staging.fetch_day.date_id IS 'Day, YYYYMMDD';
COMMENT ON COLUMN staging.fetch_day.kept IS 'Valid distinct rows of the day';
COMMENT ON COLUMN staging.fetch_day.repeats IS 'Duplicates of kept rows';
COMMENT ON COLUMN staging.fetch_day.bad IS 'Rejected rows';

COMMENT ON TABLE staging.quarantine IS
    'Rejected rows of raw files, with the reason and what was done about them. Never deleted.';
COMMENT ON COLUMN staging.quarantine.quarantine_id IS 'Number of the rejected row, for `sales-assets quarantine`';
COMMENT ON COLUMN staging.quarantine.fetch_id IS 'Raw file that has the row (raw.fetch)';
COMMENT ON COLUMN staging.quarantine.line_no IS 'Line of the row in the file, from 1; the header is line 1';
COMMENT ON COLUMN staging.quarantine.date_id IS 'Day of the delivered text, YYYYMMDD; empty: the date can''t be read';
COMMENT ON COLUMN staging.quarantine.reason IS 'Rule that the row breaks, with the value';
COMMENT ON COLUMN staging.quarantine.line_text IS 'The row as delivered';
COMMENT ON COLUMN staging.quarantine.state IS
    'open, corrected, discarded, or resolved: valid since another row was resolved or the rules changed';
COMMENT ON COLUMN staging.quarantine.corrected_text IS
    'Text that replaces the row; one that still breaks a rule is kept while the row is open';
COMMENT ON COLUMN staging.quarantine.corrected_at IS
    'When the row was last resolved or reopened; the file is parsed again after it';
COMMENT ON COLUMN staging.quarantine.found_at IS 'When the row was first rejected';

COMMENT ON COLUMN staging.resolution.resolution_id IS 'Number of the resolution';
COMMENT ON COLUMN staging.resolution.quarantine_id IS 'Rejected row (staging.quarantine)';
COMMENT ON COLUMN staging.resolution.action IS 'correct, discard, parse again or reopen';
COMMENT ON COLUMN staging.resolution.corrected_text IS 'Text of a correction';
COMMENT ON COLUMN staging.resolution.via IS 'command or page';
COMMENT ON COLUMN staging.resolution.resolved_at IS 'When it was stored';

COMMENT ON COLUMN staging.resolution_day.resolution_id IS 'Resolution (staging.resolution)';
COMMENT ON COLUMN staging.resolution_day.fetch_id IS
    'Raw file of the row, or of an identical row that inherits the resolution (raw.fetch)';
COMMENT ON COLUMN staging.resolution_day.date_id IS 'Day that the resolution can change, YYYYMMDD';
COMMENT ON COLUMN staging.resolution_day.rows_before IS 'Rows of the day in mart.f_sales when the row was resolved';
COMMENT ON COLUMN staging.resolution_day.quantity_before IS 'Net quantity of the day at that time';
COMMENT ON COLUMN staging.resolution_day.amount_before IS 'Net amount of the day at that time';
COMMENT ON COLUMN staging.resolution_day.started_at IS 'When the latest load of the day began';
COMMENT ON COLUMN staging.resolution_day.run_id IS 'Run of Dagster of that load';
COMMENT ON COLUMN staging.resolution_day.failure IS 'Why that load failed for the day';
COMMENT ON COLUMN staging.resolution_day.loaded_at IS
    'When the day was loaded with the resolution; empty: the sensor resolved_days requests it';
COMMENT ON COLUMN staging.resolution_day.rows_after IS 'Rows of the day in mart.f_sales after that load';
COMMENT ON COLUMN staging.resolution_day.quantity_after IS 'Net quantity of the day after that load';
COMMENT ON COLUMN staging.resolution_day.amount_after IS 'Net amount of the day after that load';

COMMENT ON TABLE staging.staged_day IS
    'The raw file that each day of a staging table was loaded from. A day without a row was never staged.';
COMMENT ON COLUMN staging.staged_day.file IS 'user_orders_log, custom_research, user_activity_log or price_log';
COMMENT ON COLUMN staging.staged_day.date_id IS 'Day, YYYYMMDD';
COMMENT ON COLUMN staging.staged_day.fetch_id IS 'Selected raw file (raw.fetch)';
COMMENT ON COLUMN staging.staged_day.revision IS 'Revision of its parse result (staging.fetch_reading)';
COMMENT ON COLUMN staging.staged_day.rows IS 'Rows that were staged';
COMMENT ON COLUMN staging.staged_day.former_rows IS
    'Rows of the file that was staged before; empty: the day was staged once';
COMMENT ON COLUMN staging.staged_day.staged_at IS 'When the day was staged';
COMMENT ON COLUMN staging.staged_day.run_id IS 'Run of Dagster that staged it';

COMMENT ON TABLE staging.name IS
    'Distinct names of cities, customers and items, with the event times at which they were used.';
COMMENT ON COLUMN staging.name.dimension IS 'd_city, d_customer or d_item';
COMMENT ON COLUMN staging.name.id IS 'city_id, customer_id or item_id';
COMMENT ON COLUMN staging.name.first IS 'Name of the city or item, first name of the customer';
COMMENT ON COLUMN staging.name.second IS 'Last name of the customer; empty text for a city or item';
COMMENT ON COLUMN staging.name.first_seen IS 'Event time of the earliest row with the name';
COMMENT ON COLUMN staging.name.last_seen IS 'Event time of the latest row with the name';
COMMENT ON COLUMN staging.name.last_line IS 'Line of that row in its raw file';
COMMENT ON COLUMN staging.name.loaded_at IS 'When a load last saw the name at last_seen';
COMMENT ON COLUMN staging.name.stored_at IS 'When a load last saw the name at any event time';

COMMENT ON TABLE staging.partner_item IS 'Mapping of the partner''s items to ours, imported by `sales-assets orders map`.';
COMMENT ON COLUMN staging.partner_item.kodpost IS 'Supplier code of the partner''s chain';
COMMENT ON COLUMN staging.partner_item.their_id IS 'The partner''s id of the item';
COMMENT ON COLUMN staging.partner_item.item_id IS 'Our item (mart.d_item)';

COMMENT ON TABLE staging.partner_pharmacy IS
    'Mapping of the partner''s pharmacies to cities, imported by `sales-assets orders map`.';
COMMENT ON COLUMN staging.partner_pharmacy.kodpost IS 'Supplier code of the partner''s chain';
COMMENT ON COLUMN staging.partner_pharmacy.their_pharmacy_id IS 'The partner''s id of the pharmacy';
COMMENT ON COLUMN staging.partner_pharmacy.city_id IS 'City of the pharmacy (mart.d_city)';

COMMENT ON TABLE staging.partner_customer IS 'Mapping of phones to customers, imported by `sales-assets orders map`.';
COMMENT ON COLUMN staging.partner_customer.phone IS 'The phone in any spelling, or a pseudonym of an erased one';
COMMENT ON COLUMN staging.partner_customer.customer_id IS 'Customer (mart.d_customer)';
COMMENT ON COLUMN staging.partner_customer.client_phone IS
    'Key of the phone, independent of its spelling; empty: it is not a phone';

COMMENT ON VIEW staging.customer_of_phone IS 'The customer of each mapped phone. A phone of two customers is left out.';
COMMENT ON COLUMN staging.customer_of_phone.phone IS 'Key of the phone, independent of its spelling';
COMMENT ON COLUMN staging.customer_of_phone.customer_id IS 'Customer (mart.d_customer)';

COMMENT ON TABLE staging.partner_order_quarantine IS
    'Lines of partner orders that could not be loaded, with the reason. Replaced with their day.';
COMMENT ON COLUMN staging.partner_order_quarantine.message_id IS 'Event that has the line (staging.partner_order_event)';
COMMENT ON COLUMN staging.partner_order_quarantine.line_no IS 'Number of the line in the order, from 1';
COMMENT ON COLUMN staging.partner_order_quarantine.status IS 'shipped or refunded';
COMMENT ON COLUMN staging.partner_order_quarantine.date_id IS 'Day of the event, YYYYMMDD';
COMMENT ON COLUMN staging.partner_order_quarantine.reason IS 'What is missing, such as a mapping';

COMMENT ON COLUMN staging.user_orders_log_named.fetch_id IS 'Raw file that the row comes from (raw.fetch)';
COMMENT ON COLUMN staging.user_orders_log_named.line_no IS 'Line of the row in the file';
COMMENT ON COLUMN staging.user_orders_log_named.sale_id IS 'Id of the row of mart.f_sales made from it';
COMMENT ON COLUMN staging.user_orders_log_named.date_id IS 'Calendar day of the event, YYYYMMDD';
COMMENT ON COLUMN staging.user_orders_log_named.uniq_id IS 'Identity of the order line';
COMMENT ON COLUMN staging.user_orders_log_named.date_time IS 'Date and time of the event as in the file';
COMMENT ON COLUMN staging.user_orders_log_named.city_id IS 'City (mart.d_city)';
COMMENT ON COLUMN staging.user_orders_log_named.city_name IS 'Name of the city at the time of the row';
COMMENT ON COLUMN staging.user_orders_log_named.customer_id IS 'Customer (mart.d_customer)';
COMMENT ON COLUMN staging.user_orders_log_named.first_name IS 'First name at the time of the row';
COMMENT ON COLUMN staging.user_orders_log_named.last_name IS 'Last name at the time of the row';
COMMENT ON COLUMN staging.user_orders_log_named.item_id IS 'Item (mart.d_item)';
COMMENT ON COLUMN staging.user_orders_log_named.item_name IS 'Name of the item at the time of the row';
COMMENT ON COLUMN staging.user_orders_log_named.quantity IS 'Pieces; positive, for refunds too';
COMMENT ON COLUMN staging.user_orders_log_named.payment_amount IS 'Total of the line; positive, for refunds too';
COMMENT ON COLUMN staging.user_orders_log_named.status IS 'shipped or refunded';

COMMENT ON COLUMN staging.erased_customer.customer_id IS 'Customer';
COMMENT ON COLUMN staging.erased_customer.erased_at IS 'When the names were erased';

COMMENT ON COLUMN mart.f_sales_lines.id IS 'Row of mart.f_sales';
COMMENT ON COLUMN mart.f_sales_lines.date_id IS 'Calendar day of the event, YYYYMMDD';
COMMENT ON COLUMN mart.f_sales_lines.status IS 'shipped or refunded';
COMMENT ON COLUMN mart.f_sales_lines.source IS 'Writer of the row: report_api, partner_orders or legacy';
COMMENT ON COLUMN mart.f_sales_lines.uniq_id IS 'Identity of the line; empty: a legacy row';
COMMENT ON COLUMN mart.f_sales_lines.fetch_id IS 'Raw file of the line (raw.fetch); empty: of a partner order or legacy';
COMMENT ON COLUMN mart.f_sales_lines.fetch_kind IS 'report, increment or partner order';
COMMENT ON COLUMN mart.f_sales_lines.file IS 'Path of the raw file, or order, line and event of the partner order';
COMMENT ON COLUMN mart.f_sales_lines.line_no IS 'Line in the raw file or order';

COMMENT ON TABLE orders.partner_order IS
    'Orders at the partner: what was requested, the state, and what is known of it at the partner.';
COMMENT ON COLUMN orders.partner_order.order_id IS 'Our id of the order';
COMMENT ON COLUMN orders.partner_order.body_hash IS 'SHA-256 of the request: a repeated order_id must have the same body';
COMMENT ON COLUMN orders.partner_order.order_date IS 'Date of the order';
COMMENT ON COLUMN orders.partner_order.order_type IS '1 pre-order, 2 reservation';
COMMENT ON COLUMN orders.partner_order.their_pharmacy_id IS 'The partner''s id of the pharmacy';
COMMENT ON COLUMN orders.partner_order.phone IS 'The client''s phone, or its pseudonym once it is erased';
COMMENT ON COLUMN orders.partner_order.lines IS 'Lines of the order: line_no, their_id, price, count, part';
COMMENT ON COLUMN orders.partner_order.state IS
    'creating, unknown, failed, rejected, accepted, cancelling, cancel_unknown, done or cancelled';
COMMENT ON COLUMN orders.partner_order.their_order_id IS
    'The partner''s id of the order; empty: the partner is not known to have it';
COMMENT ON COLUMN orders.partner_order.refusal IS 'The partner''s refusal of the items';
COMMENT ON COLUMN orders.partner_order.claim IS 'Process that has a call to the partner in progress';
COMMENT ON COLUMN orders.partner_order.claimed_until IS 'When that claim expires';
COMMENT ON COLUMN orders.partner_order.status_id IS
    'Status last seen at the partner: 0 created, 1 on its way, 2 done, 3 cancelled, 4 in the shop';
COMMENT ON COLUMN orders.partner_order.cancelled_at IS 'When the cancel took effect; empty: not cancelled';
COMMENT ON COLUMN orders.partner_order.checks IS 'Lookups by the reconciler in the present state';
COMMENT ON COLUMN orders.partner_order.next_check_at IS 'When the reconciler looks it up next; empty: nothing to resolve';
COMMENT ON COLUMN orders.partner_order.created_at IS 'When the order was requested';
COMMENT ON COLUMN orders.partner_order.updated_at IS 'When the row was last changed';
COMMENT ON COLUMN orders.partner_order.check_until IS 'When the reconciler stops looking it up in the present state';
COMMENT ON COLUMN orders.partner_order.cancel_answer IS
    'What the last cancel was answered; empty: it is in progress, or none was requested';

COMMENT ON TABLE mailings.mailing IS
    'Mailings: text, recipients'' filters, times and state. A deleted one is kept for the marts.';
COMMENT ON COLUMN mailings.mailing.mailing_id IS 'Mailing';
COMMENT ON COLUMN mailings.mailing.text IS 'Text of the messages';
COMMENT ON COLUMN mailings.mailing.operator_code_filter IS 'Operator code of the recipients; empty: every one';
COMMENT ON COLUMN mailings.mailing.tag_filter IS 'Tag of the recipients; empty: every one, and none';
COMMENT ON COLUMN mailings.mailing.start_time IS 'When it starts';
COMMENT ON COLUMN mailings.mailing.end_time IS 'Nothing is sent after it';
COMMENT ON COLUMN mailings.mailing.send_from IS
    'Begin of the window of a day in each client''s time zone; empty: the whole day';
COMMENT ON COLUMN mailings.mailing.send_until IS 'End of that window; before its begin: over midnight';
COMMENT ON COLUMN mailings.mailing.state IS
    'scheduled, running (its recipients are fixed) or finished (every message has its final status)';
COMMENT ON COLUMN mailings.mailing.paused_at IS 'When it was paused; empty: not paused';
COMMENT ON COLUMN mailings.mailing.asked_at IS 'When tasks were enqueued for it that no worker has begun';
COMMENT ON COLUMN mailings.mailing.started_at IS 'When its recipients were fixed';
COMMENT ON COLUMN mailings.mailing.finished_at IS 'When its last message got its final status';
COMMENT ON COLUMN mailings.mailing.deleted_at IS 'When it was deleted';
COMMENT ON COLUMN mailings.mailing.created_at IS 'When it was added';
COMMENT ON COLUMN mailings.mailing.updated_at IS 'When it was last changed';

COMMENT ON TABLE mailings.message_count IS
    'Changes of the number of messages by mailing and status: their sum is the number. Written by triggers of '
    'mailings.message.';
COMMENT ON COLUMN mailings.message_count.mailing_id IS 'Mailing';
COMMENT ON COLUMN mailings.message_count.status IS 'Pending, SENT, FAILED or TIMEOUT';
COMMENT ON COLUMN mailings.message_count.change IS 'Change of the number of messages';

COMMENT ON VIEW mailings.phone_link IS
    'Links of clients to customers by the phones of partner orders, except for clients that were linked through the API.';
COMMENT ON COLUMN mailings.phone_link.client_id IS 'Client of the mailings';
COMMENT ON COLUMN mailings.phone_link.customer_id IS 'Customer (mart.d_customer)';

COMMENT ON TABLE mailings.send_rate IS
    'The time before which no worker sends a further message. One row, empty after a crash of the server.';
COMMENT ON COLUMN mailings.send_rate.one IS 'Always true: there is one row';
COMMENT ON COLUMN mailings.send_rate.next_at IS 'When the next message may be sent';

COMMENT ON COLUMN mailings.suppression.phone IS '7 and ten digits';
COMMENT ON COLUMN mailings.suppression.source IS 'link (of a message), import or admin (page)';
COMMENT ON COLUMN mailings.suppression.suppressed_at IS 'Since when';
COMMENT ON COLUMN mailings.suppression.suppression_id IS 'Number of the row, for addresses of the admin page';

COMMENT ON COLUMN mailings.erased_phone.pseudonym IS
    'erased: and the HMAC-SHA256 of the phone''s key under SALES_ERASURE_SECRET';
COMMENT ON COLUMN mailings.erased_phone.key_id IS 'Id of that secret';
COMMENT ON COLUMN mailings.erased_phone.erased_at IS 'When the phone was erased';

COMMENT ON COLUMN mailings.ended_admin_session.session_id IS 'Random id of the session';
COMMENT ON COLUMN mailings.ended_admin_session.expires_at IS 'When its cookie expires';

COMMENT ON COLUMN lake.iceberg_tables.catalog_name IS 'Name of the catalog';
COMMENT ON COLUMN lake.iceberg_tables.table_namespace IS 'Namespace of the table';
COMMENT ON COLUMN lake.iceberg_tables.table_name IS 'Name of the table';
COMMENT ON COLUMN lake.iceberg_tables.metadata_location IS 'Location of the current metadata';
COMMENT ON COLUMN lake.iceberg_tables.previous_metadata_location IS 'Location of the metadata before';
COMMENT ON COLUMN lake.iceberg_tables.iceberg_type IS 'TABLE or VIEW';

COMMENT ON TABLE lake.iceberg_namespace_properties IS 'Iceberg catalog: properties of the namespaces.';
COMMENT ON COLUMN lake.iceberg_namespace_properties.catalog_name IS 'Name of the catalog';
COMMENT ON COLUMN lake.iceberg_namespace_properties.namespace IS 'Namespace';
COMMENT ON COLUMN lake.iceberg_namespace_properties.property_key IS 'Name of the property';
COMMENT ON COLUMN lake.iceberg_namespace_properties.property_value IS 'Value of the property';

COMMENT ON COLUMN ops.admin_login.login_id IS 'Number of the entry';
COMMENT ON COLUMN ops.admin_login.user_name IS 'Name of the user';
COMMENT ON COLUMN ops.admin_login.event IS 'login, refused (a wrong password) or logout';
COMMENT ON COLUMN ops.admin_login.at IS 'When it happened';

COMMENT ON TABLE ops.adopted_column IS
    'Columns of mart.f_sales that existed before the platform, with their former definitions for a downgrade.';
COMMENT ON COLUMN ops.adopted_column.column_name IS 'status or source';
COMMENT ON COLUMN ops.adopted_column.is_nullable IS 'Whether it could be NULL';
COMMENT ON COLUMN ops.adopted_column.former_default IS 'Its default; empty: none';

COMMENT ON TABLE ops.dropped_foreign_key IS 'Foreign keys of mart.f_sales that a migration dropped, for a downgrade.';
COMMENT ON COLUMN ops.dropped_foreign_key.statement IS 'Statement that adds the foreign key again';

COMMENT ON TABLE ops.schema_version IS 'Revision of the warehouse''s schema, which `sales-assets migrate` changes.';
COMMENT ON COLUMN ops.schema_version.version_num IS 'Revision, such as 0019';
