"""`pandawn queues`: what PanDA calls schedconfig, shown and changed, one by one or as files."""

from pandawn_tools.cli.plain import PlainApp, lazy_commands

app = PlainApp(
    no_args_is_help=True,
    # Imported when called: those that read files need a YAML parser, the others do not.
    commands=lazy_commands(
        "pandawn_tools.cli.queues",
        {
            "Look": [
                (
                    "list",
                    "show:list_queues",
                    "List queues. WAIT is the longest time that a job is held for a node that has its files.",
                ),
                (
                    "show",
                    "show:show",
                    "Show all parameters of a queue as they are in effect, and the etag that `set --etag` takes.",
                ),
                (
                    "overrides",
                    "overrides:list_overrides",
                    "List what is overridden now, until when, by whom and why.",
                ),
            ],
            "Change one queue": [
                (
                    "set",
                    "single:set_parameters",
                    "Change a queue, or create one; what is not named stays as it is.",
                ),
                (
                    "delete",
                    "single:delete_queue",
                    "Delete a queue that has neither jobs nor pilots. Its history stays: `rollback` brings it back.",
                ),
                (
                    "override",
                    "overrides:override",
                    "Set parameters of a queue for a time; what its documents say comes back by itself.",
                ),
            ],
            "Keep as files": [
                (
                    "export",
                    "files:export_files",
                    "Write what is set into YAML files, one a queue, site and cloud.",
                ),
                (
                    "plan",
                    "files:plan",
                    "Show what `apply` would change, and everything that is wrong with the files.",
                ),
                (
                    "apply",
                    "apply:apply",
                    "Make the server's queues what the files of a directory say, in one transaction.",
                ),
                (
                    "import-cric",
                    "cric:import_cric",
                    "Take over queues from CRIC or AGIS, and say what was mapped, ignored and is wrong.",
                ),
            ],
            "Go back and forth": [
                (
                    "history",
                    "history:history",
                    "Show who changed queues, when and why, the newest first.",
                ),
                (
                    "diff",
                    "history:diff",
                    "Show what is different between two revisions. The older one second gives the way back.",
                ),
                (
                    "rollback",
                    "history:rollback",
                    "Make all queues, sites and clouds what they were at a revision, by a new revision.",
                ),
            ],
        },
    ),
)


@app.callback()
def queues() -> None:
    """Show and change queues."""
