"""Self-Rewarding Language Models (arXiv 2401.10020) as a versioned dataset builder. A file here is a verb, a folder is
a noun."""
