"""Request and response models of the order endpoints."""
