"""Writes compat/auth/matrix.tsv anew from a run against stock; what it says of ours stays."""

import itertools

from .matrix import BACKENDS, CLEAR, COLUMNS, ENTRIES, HBA, STATES, applies, cells_of, is_success, may_succeed
from .attempt import KINDS


def all_cells():
    return [c for c in cells_of(HBA, CLEAR, ENTRIES, BACKENDS, STATES) if applies(c)]


def write(table, verdicts, subject):
    """Cells that the run left out keep what the table says. A new difference of ours gets the reason `?`;
    a login that must not be is no difference and is not written down."""
    stock, ours = dict(table.stock), dict(table.ours)
    for verdict in verdicts:
        cell = verdict.cell
        if subject == "stock":
            stock[cell] = verdict.outcome
        elif is_success(verdict.outcome) and not may_succeed(cell):
            continue
        elif verdict.outcome == stock.get(cell):
            ours.pop(cell, None)
        elif cell not in ours or ours[cell][0] != verdict.outcome:
            ours[cell] = (verdict.outcome, ours[cell][1] if cell in ours else "?")
    with open(table.path, "w", encoding="utf-8") as out:
        for line in table.comment:
            out.write(line + "\n")
        out.write("\t".join(COLUMNS) + "\n")
        for row, text in merged(_texts(stock, ours)):
            out.write("\t".join((*row, *text)).rstrip("\t") + "\n")


def _texts(stock, ours):
    """The columns behind the axes, per row."""
    texts = {}
    for cell in all_cells():
        if cell in stock or cell in ours:
            texts.setdefault(cell.row, {})[cell.kind] = (stock.get(cell, "-"), ours.get(cell))
    lines = {}
    for row, kinds in texts.items():
        if "stored" not in kinds and "longer" in kinds:
            # What cannot be tried says what its neighbour says, so that rows can be joined.
            kinds["stored"] = kinds["longer"]
        mine = {k: own for k, (_, own) in kinds.items() if own}
        if all(outcome == "-" for outcome, _ in kinds.values()) and not mine:
            continue
        if len(mine) == len(kinds) and len({outcome for outcome, _ in mine.values()}) == 1:
            mine = {"*": next(iter(mine.values()))}
        reasons = sorted({reason for _, reason in mine.values()})
        columns = [kinds[k][0] if k in kinds else "-" for k in KINDS]
        lines[row] = (*columns, "; ".join(f"{k}={outcome}" for k, (outcome, _) in mine.items()), " / ".join(reasons))
    return lines


def merged(texts):
    """Rows with the same text become one, axis by axis, in the order of axes that leaves the fewest rows."""
    known = (HBA, CLEAR, ENTRIES, BACKENDS, STATES)
    best = None
    for order in itertools.permutations((1, 2, 3, 4)):
        rows = {tuple((word,) for word in row): text for row, text in texts.items()}
        for axis in order:
            groups = {}
            for row, text in rows.items():
                groups.setdefault((row[:axis], row[axis + 1 :], text), []).extend(row[axis])
            rows = {before + (tuple(sorted(words, key=known[axis].index)),) + after: text for (before, after, text), words in groups.items()}
        if best is None or len(rows) < len(best):
            best = rows

    def place(row):
        return tuple(known[axis].index(row[axis][0]) for axis in (0, 1, 3, 2, 4))

    for row in sorted(best, key=place):
        yield tuple("*" if len(words) == len(k) else ",".join(words) for words, k in zip(row, known)), best[row]
