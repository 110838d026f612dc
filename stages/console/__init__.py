"""How the verbs speak to people: errors, progress, one entry for every command."""
