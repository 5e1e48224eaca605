{{ latest_name('customer_id', ['first_name', 'last_name']) }}
