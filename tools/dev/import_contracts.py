"""A contract type for import-linter: a package may import only what is listed.

The linter's own `forbidden` contract lists forbidden imports. For packages with few dependencies (the
domain, and everything that runs on a worker node) it is the opposite: any import that is not listed is an
error, even of a library that is added next year.
"""

import sys

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class OnlyContract(Contract):
    """Direct imports of `package`, except from the standard library, must be in `allowed`."""

    type_name = "only"

    package = fields.StringField()
    allowed = fields.SetField(subfield=fields.StringField(), required=False)

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Check every direct import of every module of the package."""
        del verbose
        package = str(self.package)
        # The linter replaces the fields by the parsed values, which type checkers do not know.
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
