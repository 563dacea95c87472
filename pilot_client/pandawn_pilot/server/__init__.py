"""A pilot's calls to the server: session, jobs, leases, reports, queue."""
