"""Reads pairs of muons from ROOT files of two layouts.

`uproot-Zmumu*`: CMS data of 2010, with one row per pair of muons, numbered 1 and 2.
`uproot-HZZ*`: simulated events, with one row per event and lists of muons.
"""

from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
import uproot

# A muon of each pair: its columns by name, GeV.
Legs = dict[str, npt.NDArray[np.float64]]

PAIR = np.dtype([(name, float) for name in ("pt1", "pt2", "eta1", "eta2", "mass")])


def read_pairs(path: str) -> npt.NDArray[np.void]:
    """Returns the pairs of oppositely charged muons in a file.

    The fields are those of `PAIR`: transverse momenta (GeV, the larger first), pseudorapidities in the
    same order, and the invariant mass of the pair (GeV).
    """
    with uproot.open(path) as file:
        tree = file["events"]
        first, second = _named(tree) if "px1" in tree else _listed(tree)
    return _combine(first, second)


def _named(tree: Any) -> tuple[Legs, Legs]:  # noqa: ANN401  # uproot has no types
    names = ("px", "py", "pz", "E")
    columns = [f"{name}{leg}" for leg in (1, 2) for name in (*names, "Q")]
    rows = tree.arrays([*columns, "Type"], library="np")
    # The tree has a pair up to four times, by the type of its muons. Type GG means that the whole
    # detector found both.
    kept = (rows["Type"].astype(str) == "GG") & (rows["Q1"] * rows["Q2"] < 0)
    first, second = (
        {name: rows[f"{name}{leg}"][kept].astype(float) for name in names} for leg in (1, 2)
    )
    return first, second


def _listed(tree: Any) -> tuple[Legs, Legs]:  # noqa: ANN401  # as above
    branches = {"px": "Muon_Px", "py": "Muon_Py", "pz": "Muon_Pz", "E": "Muon_E"}
    rows = tree.arrays([*branches.values(), "Muon_Charge"])
    muons = ak.zip(
        {name: rows[branch] for name, branch in branches.items()} | {"Q": rows["Muon_Charge"]}
    )
    legs = ak.unzip(ak.combinations(muons, 2))
    opposite = legs[0].Q * legs[1].Q < 0
    first, second = (
        {name: ak.to_numpy(ak.flatten(leg[opposite][name])).astype(float) for name in branches}
        for leg in legs
    )
    return first, second


def _combine(first: Legs, second: Legs) -> npt.NDArray[np.void]:
    total = {name: first[name] + second[name] for name in first}
    squared = total["E"] ** 2 - total["px"] ** 2 - total["py"] ** 2 - total["pz"] ** 2
    pt = np.stack([np.hypot(leg["px"], leg["py"]) for leg in (first, second)])
    eta = np.arcsinh(np.stack([first["pz"], second["pz"]]) / pt)
    larger_first = np.argsort(-pt, axis=0)
    pairs = np.empty(len(squared), PAIR)
    pairs["pt1"], pairs["pt2"] = np.take_along_axis(pt, larger_first, 0)
    pairs["eta1"], pairs["eta2"] = np.take_along_axis(eta, larger_first, 0)
    pairs["mass"] = np.sqrt(np.maximum(squared, 0))
    return pairs
