"""TRL behind two functions."""
