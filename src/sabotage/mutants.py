"""Draws mutants: lines of LAVA's dispatcher that jobs run through, each changed by chance.

Standard input is JSON: `seed`, `count`, `root` (the folder that has the packages) and
`traces`, for each scenario its lines as `path:number` below that folder. Standard output
is a JSON list, a mutant an item: `file`, `line`, `kind`, `before`, `after`, `text` (of
the whole file) and `scenarios` (those that run through the line).

Python's own parser says what an operator, a constant or a statement is.
"""
import ast
import json
import random
import sys

COMPARE = {
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Lt: ">=",
    ast.LtE: ">",
    ast.Gt: "<=",
    ast.GtE: "<",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}
BINARY = {ast.Add: "-", ast.Sub: "+", ast.Mult: "//", ast.Div: "*", ast.FloorDiv: "*"}


class Source:
    def __init__(self, root, path):
        self.path = path
        with open(f"{root}/{path}", encoding="utf-8") as file:
            self.text = file.read()
        self.tree = ast.parse(self.text)
        # Columns of the tree count bytes.
        self.lines = self.text.encode().splitlines(keepends=True)
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line))

    def span(self, node):
        return (
            self.starts[node.lineno - 1] + node.col_offset,
            self.starts[node.end_lineno - 1] + node.end_col_offset,
        )

    def replaced(self, start, end, new):
        data = self.text.encode()
        return (data[:start] + new.encode() + data[end:]).decode()

    def between(self, left, right, new):
        """Replaces the operator between two operands."""
        start, end = self.span(left)[1], self.span(right)[0]
        gap = self.text.encode()[start:end].decode()
        # Parentheses and line breaks around the operator stay.
        words = gap.strip(" \t\n()\\")
        if "#" in gap or not words:
            return None
        return self.replaced(start, end, gap.replace(words, new, 1))


def mutations(source):
    """All mutants of a file: (line, kind, text)."""
    documentation = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.JoinedStr):
            documentation.update(id(part) for part in ast.walk(node))
        body = getattr(node, "body", None)
        if isinstance(body, list):
            for statement in body:
                if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                    documentation.update((id(statement), id(statement.value)))
    for node in ast.walk(source.tree):
        if id(node) in documentation:
            continue
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            new = source.between(node.left, node.comparators[0], COMPARE[type(node.ops[0])])
            yield node.lineno, "operator", new
        elif isinstance(node, ast.BoolOp):
            new = "or" if isinstance(node.op, ast.And) else "and"
            yield node.lineno, "operator", source.between(node.values[0], node.values[1], new)
        elif isinstance(node, ast.BinOp) and type(node.op) in BINARY:
            new = source.between(node.left, node.right, BINARY[type(node.op)])
            yield node.lineno, "operator", new
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            operand = ast.get_source_segment(source.text, node.operand)
            yield node.lineno, "operator", source.replaced(*source.span(node), f"bool({operand})")
        elif isinstance(node, ast.Constant):
            value = node.value
            if value is True or value is False:
                new = repr(not value)
            elif isinstance(value, int):
                new = repr(value + 1)
            elif isinstance(value, float):
                new = repr(value + 1)
            elif isinstance(value, str):
                new = repr(value + "X") if value else repr("X")
            else:
                continue
            yield node.lineno, "constant", source.replaced(*source.span(node), new)
        elif isinstance(
            node,
            (ast.Expr, ast.Assign, ast.AugAssign, ast.Raise, ast.Delete, ast.Break, ast.Continue),
        ):
            yield node.lineno, "statement", source.replaced(*source.span(node), "pass")
        elif isinstance(node, ast.Return) and node.value is not None:
            yield node.lineno, "statement", source.replaced(*source.span(node), "return None")


def class_lines(source, run):
    """Lines of a class itself, with the scenarios that run through one of its functions.

    `accepts` is no such function: each strategy is asked for each job, and one is chosen.
    """
    lines = {}
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ClassDef):
            continue
        inside = set()
        for function in node.body:
            if isinstance(function, ast.FunctionDef) and function.name != "accepts":
                inside.update(range(function.lineno, function.end_lineno + 1))
        scenarios = set().union(*(run[line] for line in inside & run.keys()))
        if scenarios:
            lines.update((s.lineno, scenarios) for s in node.body if isinstance(s, ast.Assign))
    return lines


def main():
    asked = json.load(sys.stdin)
    chance = random.Random(asked["seed"])
    through = {}
    for scenario, lines in asked["traces"].items():
        for line in lines:
            path, number = line.rsplit(":", 1)
            through.setdefault(path, {}).setdefault(int(number), set()).add(scenario)
    pool = []
    for path in sorted(through):
        source = Source(asked["root"], path)
        run = through[path]
        for number, scenarios in class_lines(source, run).items():
            run.setdefault(number, scenarios)
        by_line = {}
        for number, kind, text in mutations(source):
            if number in run and text is not None and text != source.text:
                try:
                    compile(text, path, "exec")
                except (SyntaxError, ValueError):
                    continue
                by_line.setdefault(number, []).append((kind, text))
        pool.extend((source, number, run[number], by_line[number]) for number in sorted(by_line))
    chosen = chance.sample(pool, min(asked["count"], len(pool)))
    mutants = []
    for source, number, scenarios, choices in chosen:
        kind, text = chance.choice(choices)
        after = text.splitlines()
        # A statement of several lines becomes one.
        after = after[number - 1] if number <= len(after) else ""
        mutants.append(
            {
                "file": source.path,
                "line": number,
                "kind": kind,
                "before": source.lines[number - 1].decode().strip(),
                "after": after.strip(),
                "text": text,
                "scenarios": sorted(scenarios),
            }
        )
    json.dump({"lines": len(pool), "mutants": mutants}, sys.stdout)


main()
