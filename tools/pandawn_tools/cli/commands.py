"""The list of commands: their panels in `pandawn --help`, the module of each, and what it does in a sentence."""

from pandawn_tools.cli.plain import lazy_commands

COMMANDS = lazy_commands(
    "pandawn_tools.cli",
    {
        "Run work": [
            ("submit", "submit:app", "Submit a task: one command over many input files."),
            ("wait", "tasks:wait", "Wait until a task has ended, and show its progress."),
            ("kill", "control:kill", "Cancel jobs or whole tasks."),
            ("retry", "control:retry", "Submit failed or cancelled jobs again."),
        ],
        "See what happens": [
            ("tasks", "tasks:tasks", "List tasks, newest first."),
            (
                "jobs",
                "jobs:jobs",
                "List jobs: the jobs of one task by number, all others newest first.",
            ),
            (
                "job",
                "job:job",
                "Show one job: its files, and what each attempt used and why it failed.",
            ),
            ("why", "job:why", "Explain why a job does not run, or why it ran where it did."),
            ("events", "events:events", "Show what happened to jobs, pilots and nodes."),
            (
                "nodes",
                "nodes:app",
                "List worker nodes with their pilots and caches; drain, suspend, resume or remove a node.",
            ),
            ("pilots", "nodes:pilots", "List pilots, newest first."),
        ],
        "Operate a site": [
            ("queues", "queues:app", "Show and change queues."),
            ("access", "access:app", "Show and change who may submit to a queue, and how much."),
            (
                "cache",
                "cache:app",
                "Show and correct the catalog of files in the caches of nodes.",
            ),
            ("audit", "audit:audit", "List changes and refused calls, newest first."),
        ],
        "Log in and set up": [
            (
                "login",
                "login:login",
                "Store a bearer token for a server, in a file that only you can read.",
            ),
            ("logout", "login:logout", "Remove the token that `pandawn login` stored."),
            (
                "whoami",
                "login:whoami",
                "Show your name and your roles at the server, and the rule that gave them.",
            ),
            (
                "completion",
                "completion:completion",
                'Print the completion script of a shell: in ~/.bashrc, eval "$(pandawn completion bash)".',
            ),
        ],
        "Try out and measure": [
            (
                "demo",
                "demo:demo",
                "Run an analysis of real physics files on a server and three nodes on this machine.",
            ),
            (
                "bench",
                "bench:bench",
                "Measure a server with its own PostgreSQL and memcached, against a handler that does nothing.",
            ),
            (
                "simulate",
                "simulate:simulate",
                "Compare policies that match jobs with nodes, on a simulated cluster.",
            ),
            (
                "simulate-faults",
                "simulate_faults:simulate_faults",
                "Simulate mistakes of users and broken nodes, and show which of them the server blames.",
            ),
        ],
    },
)
