"""What a pilot asks and tells the server: session, jobs, leases, reports, its queue."""
