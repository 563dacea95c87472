"""Support for Charles Waldman's pcache: reads its tree, reports it to the catalog, and uses it in the pilot."""
