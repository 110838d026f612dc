"""The rules of the paper: pure functions from frames to frames; no files, no models."""
