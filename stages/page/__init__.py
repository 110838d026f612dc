"""The report as one HTML file: charts, the pair browser, everything escaped. Knows nothing of the store."""
