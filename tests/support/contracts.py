"""A rule about imports that import-linter's own contract types cannot say."""

import sys

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class StandardLibraryOnly(Contract):
    """The packages named import the standard library, themselves, and nothing else.

    import-linter can forbid packages by name, but not everything that has no name yet. Needs
    `include_external_packages`, which puts a node for each foreign top-level package into the
    graph. Options: `packages`; `allow`, "importer -> package" lines for the exceptions, each
    of which the importing module's docstring has to justify.
    """

    type_name = "standard_library_only"

    packages = fields.SetField(subfield=fields.StringField())
    allow = fields.SetField(subfield=fields.StringField(), required=False)

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        foreign = {
            name
            for name in graph.modules
            if graph.is_module_squashed(name)
            and name.partition(".")[0] not in sys.stdlib_module_names
        }
        found = {
            f"{importer} -> {name}" for name in foreign for importer in self._importers(graph, name)
        }
        allowed = set(self.allow or ())
        return ContractCheck(
            kept=found == allowed,
            metadata={"refused": sorted(found - allowed), "unused": sorted(allowed - found)},
        )

    def _importers(self, graph: ImportGraph, name: str) -> set[str]:
        importers = graph.find_modules_that_directly_import(name)
        return {module for module in importers if module.partition(".")[0] in self.packages}

    def render_broken_contract(self, check: ContractCheck) -> None:
        for line in check.metadata["refused"]:
            output.print_error(f"{line}: outside the standard library", bold=False)
        for line in check.metadata["unused"]:
            output.print_error(f"{line}: allowed, but nobody imports it", bold=False)
