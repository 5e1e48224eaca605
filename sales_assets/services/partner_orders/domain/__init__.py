"""The domain of partner orders: values, states and the meaning of the partner's responses. Pure: no I/O."""
