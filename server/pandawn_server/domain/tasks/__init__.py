"""Tasks and jobs: what users submit, and the states of jobs."""
