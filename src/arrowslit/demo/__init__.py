"""The demo: PostgreSQL, the stock server behind the tunnel, and the story told with them."""
