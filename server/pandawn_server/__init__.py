"""The Pandawn server: contracts at the edge, rules in the domain, truth in SQL."""
