"""The names of parameters in schedconfig, AGIS and CRIC. Only importers need them."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OldName:
    """An old name of a parameter; `a.b` is `b` in the object (or in each object of the list) `a`.

    `unit` is that of the old value: `MB` (there 1024 * 1024 bytes), `s`, `min`; empty: that of the parameter.
    """

    name: str
    unit: str = ""


OLD_NAMES: Mapping[str, tuple[OldName, ...]] = {
    "site": (OldName("atlas_site"), OldName("site"), OldName("gstat")),
    "cloud": (OldName("cloud"),),
    "status": (OldName("status"),),
    "state_reason": (OldName("state_comment"),),
    "max_input_bytes": (OldName("maxinputsize", "MB"),),
    "max_work_dir_bytes": (OldName("maxwdir", "MB"),),
    "max_wall_time": (OldName("maxtime", "s"),),
    "min_wall_time": (OldName("mintime", "s"),),
    "memory_bytes": (OldName("maxrss", "MB"), OldName("memory", "MB")),
    "min_memory_bytes": (OldName("minrss", "MB"),),
    "cores": (OldName("corecount"),),
    "core_power": (OldName("corepower"),),
    "multi_job_window": (OldName("timefloor", "min"),),
    "copy_tools_in": (OldName("acopytools.pr"), OldName("copytoolin"), OldName("copytool")),
    "copy_tools_out": (OldName("acopytools.pw"), OldName("copytool")),
    "copy_tool_setups": (OldName("copytools"),),
    "url_prefixes": (OldName("copyprefixin"), OldName("copyprefix")),
    "ddm_endpoints_in": (OldName("astorages.pr"), OldName("ddm")),
    "ddm_endpoints_out": (OldName("astorages.pw"), OldName("ddm")),
    "allow_wan": (OldName("allow_wan"),),
    "direct_access_lan": (OldName("direct_access_lan"),),
    "direct_access_wan": (OldName("direct_access_wan"),),
    "use_pcache": (OldName("use_pcache"),),
    "stage_in_attempts": (OldName("stageinretry"),),
    "stage_out_attempts": (OldName("stageoutretry"),),
    "releases": (OldName("releases"), OldName("validatedreleases")),
    "platform": (OldName("cmtconfig"),),
    "container_type": (OldName("container_type"),),
    "container_options": (OldName("container_options"),),
    "environment": (OldName("environ"),),
    "app_dir": (OldName("appdir"),),
    "scratch_dir": (OldName("wntmpdir"), OldName("tmpdir")),
    "setup_command": (OldName("envsetup"),),
    "job_recovery": (OldName("retry"),),
    "recovery_dir": (OldName("recoverdir"),),
    "pilot_host_pattern": (OldName("allowedNode"),),
    "fair_share": (OldName("fairsharepolicy"),),
    "transferring_limit": (OldName("transferringlimit"),),
    "batch_system": (OldName("jobmanager"), OldName("system")),
    "local_queue": (OldName("localqueue"),),
    "ce_endpoints": (OldName("queues.ce_endpoint"), OldName("gatekeeper")),
    "batch_submit_options": (OldName("jdladd"), OldName("globusadd"), OldName("special_par")),
    "max_queued_pilots": (OldName("nqueue"),),
    "pilot_version": (OldName("pilot_version"),),
    "payload_isolation": (OldName("glexec"),),
    "comment": (OldName("comment"), OldName("tags")),
    "catchall": (OldName("catchall"),),
}
"""By parameter; if an old object has several of its names, the first one takes precedence."""
