"""HTTP endpoints of the partner orders, one module per version of the interface."""
