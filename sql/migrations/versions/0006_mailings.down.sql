DROP TABLE mailings.send_rate, mailings.message_count, mailings.message, mailings.mailing, mailings.client_tag,
           mailings.client_customer, mailings.client;
DROP FUNCTION mailings.count_messages, mailings.recipients;
-- A shop's database may have had a schema of this name, with tables in it.
DO $schema$
BEGIN
    DROP SCHEMA mailings;
EXCEPTION WHEN dependent_objects_still_exist THEN NULL;
END
$schema$;
