CREATE TABLE mart.f_activity (
    date_id     integer NOT NULL,
    customer_id integer NOT NULL,
    action_id   integer NOT NULL,
    events      bigint NOT NULL CHECK (events > 0),
    quantity    numeric(20, 2) NOT NULL,
    PRIMARY KEY (date_id, customer_id, action_id)
);
COMMENT ON TABLE mart.f_activity IS 'What customers did: a row per day, customer and action.';
COMMENT ON COLUMN mart.f_activity.customer_id IS
    'Customer. In mart.d_customer only if the customer has bought something.';
COMMENT ON COLUMN mart.f_activity.events IS 'Lines of the activity log.';
COMMENT ON COLUMN mart.f_activity.quantity IS 'Total quantity of the events; 0 is legal.';

CREATE TABLE mart.f_research (
    date_id     integer NOT NULL,
    category_id integer NOT NULL,
    geo_id      integer NOT NULL,
    sales_qty   numeric(10, 2) NOT NULL,
    sales_amt   numeric(10, 2) NOT NULL,
    PRIMARY KEY (date_id, category_id, geo_id)
);
COMMENT ON TABLE mart.f_research IS
    'Sales by day, category and region, as the research file reports them; not derived from mart.f_sales.';
COMMENT ON COLUMN mart.f_research.sales_qty IS 'Pieces sold.';
COMMENT ON COLUMN mart.f_research.sales_amt IS 'Amount sold.';
