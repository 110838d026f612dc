"""What did we get? A model as judge, as writer, and head to head with another (paper 3.1)."""
