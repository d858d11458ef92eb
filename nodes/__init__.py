"""The nodes: one file per job, each node its schema and a few lines of execute."""
