"""The analysis of a user: selects pairs of muons and fills their invariant mass.

    zpeak.py --out hist.npz [--min-pt GEV] [--max-eta ETA] FILE...

Writes the selected pairs and their histogram. The pairs are included so that a merge of many outputs
can count a pair once that is in several input files.
"""

import argparse

import numpy as np
from muons import read_pairs  # type: ignore[import-not-found]  # beside this file, on the node

# Bins of the histogram: 1 GeV each, around the mass of the Z boson.
LOW_GEV, HIGH_GEV, BINS = 60.0, 120.0, 60


def main() -> None:
    """Reads the files and writes one output."""
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="+")
    parser.add_argument("--out", required=True)
    parser.add_argument("--min-pt", type=float, default=0.0, help="GeV, of both muons")
    parser.add_argument("--max-eta", type=float, default=10.0, help="of both muons")
    options = parser.parse_args()

    selected = []
    for path in options.files:
        pairs = read_pairs(path)
        kept = (
            (pairs["pt2"] > options.min_pt)
            & (np.abs(pairs["eta1"]) < options.max_eta)
            & (np.abs(pairs["eta2"]) < options.max_eta)
            & (pairs["mass"] > LOW_GEV)
            & (pairs["mass"] < HIGH_GEV)
        )
        selected.append(pairs[kept])
        print(f"{path}: {len(pairs)} pairs of opposite charge, {kept.sum()} selected")

    pairs = np.concatenate(selected)
    counts, edges = np.histogram(pairs["mass"], bins=BINS, range=(LOW_GEV, HIGH_GEV))
    np.savez_compressed(options.out, pairs=pairs, counts=counts, edges=edges)


if __name__ == "__main__":
    main()
