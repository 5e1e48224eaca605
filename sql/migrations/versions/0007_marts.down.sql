DROP VIEW mailings.phone_link;
ALTER TABLE staging.partner_customer DROP COLUMN client_phone;
DROP FUNCTION mailings.phone_of(text);
DROP TABLE mart.f_mailing_statistics, mart.f_mailing_deliveries, mart.f_customer_retention;
DROP FUNCTION mart.iso_week(integer);
