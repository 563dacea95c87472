"""A contract type for import-linter: a package may import what is listed, and nothing else.

The linter's own `forbidden` contract names what may not be imported. For the packages that must
stay thin (the domain, and all that runs on a worker node) the rule is the other way round: whatever
is not listed is wrong, the library that somebody adds next year included.
"""

import sys

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class OnlyContract(Contract):
    """Direct imports out of `package`, other than of the standard library, must be of `allowed`."""

    type_name = "only"

    package = fields.StringField()
    allowed = fields.SetField(subfield=fields.StringField(), required=False)

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Look at every direct import of every module of the package."""
        del verbose
        package = str(self.package)
        # The linter puts the parsed values in the place of the fields, unknown to a type checker.
        allowed: set[str] = vars(self)["allowed"] or set()
        may_import = {package, *allowed}
        broken = sorted(
            {
                (importer, imported, detail["line_number"])
                for importer in graph.modules
                if _is_within(importer, package)
                for imported in graph.find_modules_directly_imported_by(importer)
                if imported.partition(".")[0] not in sys.stdlib_module_names
                and not any(_is_within(imported, name) for name in may_import)
                for detail in graph.get_import_details(importer=importer, imported=imported)
            }
        )
        return ContractCheck(kept=not broken, metadata={"broken": broken})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print one line for each import that is not allowed."""
        for importer, imported, line in check.metadata["broken"]:
            output.print_error(f"{importer}:{line} imports {imported}")


def _is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")
