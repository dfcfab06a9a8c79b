"""Builds many mutants of a crate into one program, in which an environment variable switches one of them on.

A mutant that is built alone costs a build. Most mutants can be built together, since each is a small change inside a function:
`a < b` becomes `match MUTANT { 7 => a <= b, _ => a < b }`, and a replaced body becomes an early return. Code of a mutant that has an
error in a type is not viable. Mutants that have no such form, or break the code around them, must be built one by one.
"""

import json
import re
import subprocess
from dataclasses import dataclass, field

import tree_sitter_rust
from tree_sitter import Language, Parser

VARIABLE = "MUTANT"
MODULE = f"""
/// Returns the number of the mutant that is switched on, or 0.
pub(crate) fn id() -> u32 {{
    static ID: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *ID.get_or_init(|| std::env::var("{VARIABLE}").ok().and_then(|id| id.parse().ok()).unwrap_or(0))
}}

pub(crate) fn is(number: u32) -> bool {{
    id() == number
}}
"""
# Mismatched types, and traits, methods, paths, operators and arguments that do not exist.
TYPE_ERRORS = {"E0277", "E0308", "E0599", "E0433", "E0369", "E0061"}
PARSER = Parser(Language(tree_sitter_rust.language()))


class Unsupported(Exception):
    """The mutant has no form with a switch."""


class Source:
    def __init__(self, path):
        self.bytes = path.read_bytes()
        self.lines = self.bytes.decode().split("\n")
        self.root = PARSER.parse(self.bytes).root_node
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line.encode()) + 1)

    def offset(self, place):
        """Returns the offset in bytes of a line and column, both from 1."""
        line = self.lines[place["line"] - 1]
        return self.starts[place["line"] - 1] + len(line[: place["column"] - 1].encode())

    def ancestors(self, start, end):
        node = self.root.named_descendant_for_byte_range(start, end)
        while node:
            yield node
            node = node.parent

    def enclosing(self, start, end, *kinds):
        return next((node for node in self.ancestors(start, end) if node.type in kinds), None)


@dataclass
class Edit:
    """A place with the changes of one or more mutants: code to insert, or alternatives to the expression from `start` to `end`."""

    start: int
    end: int
    is_insertion: bool
    changes: dict = field(default_factory=dict)  # number: code


def edit(source, mutant, number):
    start, end = (source.offset(mutant["span"][key]) for key in ("start", "end"))
    text, replacement = source.bytes, mutant["replacement"].encode()
    function = source.enclosing(start, start, "function_item")
    if function is None:
        raise Unsupported("not in a function")
    if any(child.type == "function_modifiers" and b"const" in child.text for child in function.children):
        raise Unsupported("in a const fn")

    def insertion(at, code):
        return Edit(at, at, True, {number: code})

    def alternative(node, code):
        return Edit(node.start_byte, node.end_byte, False, {number: code})

    match mutant["genre"]:
        case "FnValue":
            if "impl " in (mutant["function"]["return_type"] or ""):
                raise Unsupported("returns impl Trait")
            body = function.child_by_field_name("body").start_byte + 1
            return insertion(body, b" if crate::mutation::is(%d) { return %s; } " % (number, replacement))
        case "BinaryOperator":
            kinds = ("binary_expression", "compound_assignment_expr")
            nodes = (node for node in source.ancestors(start, end) if node.type in kinds)
            has_operator = lambda node: any((child.start_byte, child.end_byte) == (start, end) for child in node.children)
            node = next(filter(has_operator, nodes), None)
            if node is None:
                raise Unsupported("not an operator of an expression")
            # Another operator may bind differently, so the whole chain is repeated.
            while node.parent.type == "binary_expression":
                node = node.parent
            return alternative(node, text[node.start_byte : start] + replacement + text[end : node.end_byte])
        case "UnaryOperator":
            node = source.enclosing(start, end, "unary_expression")
            if node is None or node.start_byte != start:
                raise Unsupported("not an operator of an expression")
            return alternative(node, text[end : node.end_byte])
        case "MatchArmGuard":
            return Edit(start, end, False, {number: replacement})
        case "MatchArm":
            pattern = source.enclosing(start, end, "match_arm").child_by_field_name("pattern")
            guard = pattern.child_by_field_name("condition")
            if guard is None:
                return insertion(pattern.end_byte, b" if !crate::mutation::is(%d) " % number)
            if guard.type in ("let_condition", "let_chain"):
                raise Unsupported("has an if let guard")
            return alternative(guard, b"false")
        case "StructField":
            node = source.enclosing(start, end, "struct_expression")
            rest = re.sub(rb"^\s*,", b"", text[end : node.end_byte])
            return alternative(node, text[node.start_byte : start] + rest)
        case genre:
            raise Unsupported(genre)


def render(text, edits):
    """Returns the code with all edits. Comments mark the places of each mutant, so that errors of the compiler can be assigned."""
    edits = sorted(edits, key=lambda edit: (edit.start, -edit.end, not edit.is_insertion))
    at = 0

    def until(end, start):
        nonlocal at
        code = []
        while at < len(edits) and (edits[at].start < end or (edits[at].is_insertion and edits[at].start == end)):
            edit = edits[at]
            at += 1
            code.append(text[start : edit.start])
            marked = {number: b"/*[%d*/%s/*%d]*/" % (number, change, number) for number, change in edit.changes.items()}
            if edit.is_insertion:
                code.extend(marked.values())
            else:
                first = min(marked)
                arms = b" ".join(b"%d => {%s}" % arm for arm in marked.items())
                original = until(edit.end, edit.start)
                code.append(b"/*(%d*/(match crate::mutation::id() { %s _ => {%s} })/*%d)*/" % (first, arms, original, first))
            start = edit.end
        code.append(text[start:end])
        return b"".join(code)

    return until(len(text), 0)


def marked_mutant(text, start):
    """Returns the innermost mark around an offset, as (number, whether it is around all alternatives of a place)."""
    innermost = None
    for mark in re.finditer(rb"/\*([\[(])(\d+)\*/", text[:start]):
        is_place = mark[1] == b"("
        if text.find(b"/*%s%s*/" % (mark[2], b")" if is_place else b"]"), mark.end()) >= start:
            innermost = (int(mark[2]), is_place)
    return innermost


def errors(output):
    """Returns for each error of the compiler its code, and the places that it names, the most important first."""
    for line in output.splitlines():
        message = json.loads(line)
        if message["reason"] == "compiler-message" and message["message"]["level"].startswith("error"):
            error = message["message"]
            spans = error["spans"] + [span for child in error["children"] for span in child["spans"]]
            yield (error["code"] or {}).get("code"), sorted(spans, key=lambda span: not span["is_primary"])


def switch(tree, mutants, check, env):
    """Changes the crate in `tree` so that it contains the mutants, {number: mutant}. Returns the numbers of those that it contains,
    and of those that are not viable. `check` is the command that compiles the crate.
    """
    sources = {name: Source(tree / name) for name in {mutant["file"] for mutant in mutants.values()}}
    (tree / "src/mutation.rs").write_text(MODULE)
    with (tree / "src/lib.rs").open("a") as lib:
        lib.write("\nmod mutation;\n")
    edits, not_viable = {}, set()
    for number, mutant in mutants.items():
        try:
            edits[number] = edit(sources[mutant["file"]], mutant, number)
        except Unsupported:
            pass
    while True:
        places = {}  # file: {place: Edit}
        for number, change in edits.items():
            of_file = places.setdefault(mutants[number]["file"], {})
            place = of_file.setdefault((change.start, change.end, change.is_insertion), Edit(change.start, change.end, change.is_insertion))
            place.changes |= change.changes
        for name, source in sources.items():
            (tree / name).write_bytes(render(source.bytes, places.get(name, {}).values()))
        done = subprocess.run(check, cwd=tree, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode == 0:
            return set(edits), not_viable
        dropped = set()
        for code, spans in errors(done.stdout):
            for span in spans:
                marked = span["file_name"] in sources and marked_mutant((tree / span["file_name"]).read_bytes(), span["byte_start"])
                if marked:
                    number, is_place = marked
                    of_file = places[span["file_name"]].values()
                    dropped |= next(set(place.changes) for place in of_file if number in place.changes) if is_place else {number}
                    if not is_place and code in TYPE_ERRORS:
                        not_viable.add(number)
                    break
        if not dropped & set(edits):
            raise SystemExit(f"the mutants do not compile together:\n{done.stdout or ''}\n{done.stderr}")
        for number in dropped:
            edits.pop(number, None)
