{{ latest_name('city_id', ['city_name']) }}
