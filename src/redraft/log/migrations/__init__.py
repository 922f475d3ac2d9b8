"""Numbered changes of the log's schema, each one transaction; ``redraft.log.database`` runs them on open."""
