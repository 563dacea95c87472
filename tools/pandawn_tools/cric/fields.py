"""Fields of a queue in CRIC, AGIS and schedconfig without a parameter, and why an import can ignore them."""

from collections.abc import Mapping

TEXT = "text"
NUMBER = "a number"
TRUTH = "a truth value"
OBJECT = "an object"
LIST = "a list"
ANY = ""

_CRIC_OWN = "CRIC's own records"
_NAMES = "another name of the queue; the name under which it is listed counts"
_BILLING = "for accounting and pledges"
_TESTS = "for HammerCloud"
_FACTORY = "for Harvester and pilot factories"
_DDM = "storage is accessed by URLs here"
_CATALOG = "file catalogs older than Rucio"
_BATCH = "the site starts its pilots itself"
_ACCESS = "access is granted here: pandawn access"
_BROKERAGE = "brokerage here has no such rule"

IGNORED: Mapping[str, tuple[str, str]] = {
    "nickname": (TEXT, _NAMES),
    "siteid": (TEXT, _NAMES),
    "panda_resource": (TEXT, _NAMES),
    "panda_site": (TEXT, _NAMES),
    "id": (NUMBER, _CRIC_OWN),
    "rc": (TEXT, _BILLING),
    "rc_site": (TEXT, _BILLING),
    "rc_site_state": (TEXT, _CRIC_OWN),
    "rc_country": (TEXT, _BILLING),
    "country": (TEXT, _BILLING),
    "region": (TEXT, _BILLING),
    "tier": (TEXT, _BILLING),
    "tier_level": (NUMBER, _BILLING),
    "vo_name": (TEXT, _CRIC_OWN),
    "last_modified": (TEXT, _CRIC_OWN),
    "lastmod": (TEXT, _CRIC_OWN),
    "dn": (TEXT, _CRIC_OWN),
    "state_update": (TEXT, _CRIC_OWN),
    "type": (TEXT, "a queue takes all kinds of jobs here"),
    "capability": (TEXT, "cores and memory describe a slot"),
    "nodes": (NUMBER, _BILLING),
    "pledgedcpu": (NUMBER, _BILLING),
    "meanrss": (NUMBER, _BILLING),
    "maxdiskio": (NUMBER, _BROKERAGE),
    "minmemory": (NUMBER, _BROKERAGE),
    "space": (NUMBER, _DDM),
    "tspace": (TEXT, _DDM),
    "multicloud": (TEXT, _BROKERAGE),
    "jobseed": (TEXT, _BROKERAGE),
    "countrygroup": (TEXT, _BROKERAGE),
    "allow_lan": (ANY, "a site's own storage is always allowed"),
    "is_cvmfs": (TRUTH, "releases describe the software"),
    "is_default": (TRUTH, _CRIC_OWN),
    "is_virtual": (TRUTH, _CRIC_OWN),
    "wnconnectivity": (TEXT, "nodes need to reach only the server"),
    "harvester": (TEXT, _FACTORY),
    "harvester_template": (TEXT, _FACTORY),
    "pilot_manager": (TEXT, _FACTORY),
    "workflow": (TEXT, _FACTORY),
    "params": (OBJECT, _FACTORY),
    "uconfig": (OBJECT, _FACTORY),
    "resource_type": (TEXT, _FACTORY),
    "hc_param": (TEXT, _TESTS),
    "hc_suite": (LIST, _TESTS),
    "se": (TEXT, _DDM),
    "sepath": (TEXT, _DDM),
    "seprodpath": (TEXT, _DDM),
    "seopt": (TEXT, _DDM),
    "setokens": (TEXT, _DDM),
    "objectstore": (TEXT, _DDM),
    "objectstores": (ANY, _DDM),
    "allowfax": (ANY, _DDM),
    "faxredirector": (TEXT, _DDM),
    "lfchost": (TEXT, _CATALOG),
    "lfcpath": (TEXT, _CATALOG),
    "lfcprodpath": (TEXT, _CATALOG),
    "lfcregister": (ANY, _CATALOG),
    "copysetup": (TEXT, "copytools have their set-up"),
    "copysetupin": (TEXT, "copytools have their set-up"),
    "datadir": (TEXT, "pilots get their directories as options"),
    "envsetupin": (TEXT, "envsetup applies to all"),
    "accesscontrol": (TEXT, _ACCESS),
    "allowedgroups": (TEXT, _ACCESS),
    "priorityoffset": (ANY, _ACCESS),
    "defaulttoken": (TEXT, _DDM),
    "queue": (TEXT, _BATCH),
    "jdl": (TEXT, _BATCH),
    "queuehours": (ANY, _BATCH),
    "cmd": (TEXT, _BATCH),
    "ce_flavour": (TEXT, _BATCH),
}
"""By name: the kind of its value, and why it can be ignored."""

EXPECTED = frozenset(
    {
        *("name", "state", "status", "atlas_site", "cloud"),
        *("corecount", "maxtime", "maxrss", "maxinputsize", "maxwdir", "timefloor"),
        *("copytools", "acopytools", "astorages"),
    }
)
"""Fields that each queue of CRIC has: a missing one is an error."""
