"""Model folders that people bring: checked, put right, brought into one form."""
