"""Text in, text out; one model per process."""
