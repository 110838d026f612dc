"""The versioned store: table contracts, files, metrics, lineage. The only code that knows paths and parquet."""
