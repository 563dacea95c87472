"""`pandawn queues`: shows and changes what PanDA calls schedconfig, one by one or as files."""

from pandawn_tools.cli.plain import PlainApp, lazy_commands

app = PlainApp(
    no_args_is_help=True,
    # Imported when called: only the commands that read files need a YAML parser.
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
                    "Show the effective parameters of a queue, and the etag that `set --etag` takes.",
                ),
                (
                    "overrides",
                    "overrides:list_overrides",
                    "List the overrides in effect: until when, by whom and why.",
                ),
            ],
            "Change one queue": [
                (
                    "set",
                    "single:set_parameters",
                    "Change a queue, or create one; parameters that are not named keep their values.",
                ),
                (
                    "delete",
                    "single:delete_queue",
                    "Delete a queue that has neither jobs nor pilots. Its history stays: `rollback` can restore it.",
                ),
                (
                    "override",
                    "overrides:override",
                    "Set parameters of a queue for a limited time; then the values of its documents apply again.",
                ),
            ],
            "Keep as files": [
                (
                    "export",
                    "files:export_files",
                    "Write the configuration to YAML files, one for each queue, site and cloud.",
                ),
                (
                    "plan",
                    "files:plan",
                    "Show what `apply` would change, and all errors in the files.",
                ),
                (
                    "apply",
                    "apply:apply",
                    "Apply a directory of files to the server's queues, in one transaction.",
                ),
                (
                    "import-cric",
                    "cric:import_cric",
                    "Import queues from CRIC or AGIS, and report mapped, ignored and wrong fields.",
                ),
            ],
            "Go back and forth": [
                (
                    "history",
                    "history:history",
                    "Show who changed queues, when and why, newest first.",
                ),
                (
                    "diff",
                    "history:diff",
                    "Show the differences between two revisions; in reverse if the older one is second.",
                ),
                (
                    "rollback",
                    "history:rollback",
                    "Roll all queues, sites and clouds back to a revision, as a new revision.",
                ),
            ],
        },
    ),
)


@app.callback()
def queues() -> None:
    """Show and change queues."""
