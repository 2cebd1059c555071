"""``make bench``: speed and memory, measured side by side in one run and written to results/bench.csv.

``--only explainer`` (or fast, methods, imputation, matched, area, memory, tables) runs a part (the file keeps the
others' rows); ``--spent PROFILE`` prints where the time of a finished profile went; ``--peak CASE`` is the bench's own
call for a process that measures one work's memory.
"""

import argparse
import importlib
import os
import sys

import explainer_cases
import measure
import memory_cases
import pandas as pd
import spent
import table_cases
import torch

from ptame_lib import files
from ptame_study import paths, records

PARTS = ("explainer", "fast", "methods", "imputation", "matched", "area", "memory", "tables")


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--spent", metavar="PROFILE")
    parser.add_argument("--peak", metavar="CASE")
    asked = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count()))
    if asked.spent:
        return print(spent.text(spent.by_section(paths.runs(asked.spent))))

    # the call for a process of its own: one case's memory
    if asked.peak:
        case, work = asked.peak.split(".")
        print(measure.megabytes_of((explainer_cases.PEAKS | memory_cases.PEAKS | table_cases.PEAKS)[case]()[work]))
        return

    # the fast computations must equal the straightforward ones
    if asked.only in (None, "explainer"):
        for line in explainer_cases.check():
            print(line)

    # measure; the file keeps the rows of other parts
    file = files.root() / "results" / "bench.csv"
    for part in [asked.only] if asked.only else PARTS:
        cases = importlib.import_module(f"{part.removesuffix('s')}_cases")
        found = measure.table(cases.rows())
        print(found.drop(columns="device").round(3).to_string(index=False))
        known = pd.read_csv(file) if file.is_file() else measure.table([])
        kept = known[~known["name"].isin(found["name"])]
        records.write_table(file, found if kept.empty else pd.concat([kept, found], ignore_index=True))
    print(f"{measure.device_name()}: written to {files.show(file)}", file=sys.stderr)


main()
