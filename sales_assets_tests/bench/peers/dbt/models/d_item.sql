{{ latest_name('item_id', ['item_name']) }}
