"""`pandawn queues`: what PanDA calls schedconfig, seen and changed, one by one or as files."""

from pandawn_tools.cli.plain import PlainApp
from pandawn_tools.cli.queues import apply, cric, files, history, overrides, show, single

app = PlainApp(help="See and change queues.", no_args_is_help=True)

_LOOK = "Look"
_ONE = "Change one queue"
_FILES = "Keep as files"
_TIME = "Go back and forth"

app.command("list", rich_help_panel=_LOOK)(show.list_queues)
app.command("show", rich_help_panel=_LOOK)(show.show)
app.command("set", rich_help_panel=_ONE)(single.set_parameters)
app.command("delete", rich_help_panel=_ONE)(single.delete_queue)
app.command("override", rich_help_panel=_ONE)(overrides.override)
app.command("overrides", rich_help_panel=_LOOK)(overrides.list_overrides)
app.command("export", rich_help_panel=_FILES)(files.export_files)
app.command("plan", rich_help_panel=_FILES)(files.plan)
app.command("apply", rich_help_panel=_FILES)(apply.apply)
app.command("import-cric", rich_help_panel=_FILES)(cric.import_cric)
app.command("history", rich_help_panel=_TIME)(history.history)
app.command("diff", rich_help_panel=_TIME)(history.diff)
app.command("rollback", rich_help_panel=_TIME)(history.rollback)
