"""SQL for handing out jobs."""
