"""Publication: which datasets a repository on the Hugging Face Hub holds, its card, its lineage, and how all that gets
there in one commit."""
