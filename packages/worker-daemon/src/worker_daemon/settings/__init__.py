"""The settings of workerd, and how values are written in them."""
