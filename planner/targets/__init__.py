"""Places where a job runs, one module a place."""
