"""Syntax: which names Python code binds, uses and imports, and which statements of a notebook decide its result."""
import ast
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
NO_EFFECT = (("print",), ("display",), ("run",))  # calls on the screen or on the run change nothing that is kept
Imports = dict[str, set[tuple[str, str]]]  # name -> what it may stand for: a module and an attribute, "" for itself


# 1. Statements --------------------------------------------------------------------------------------------------------
def parse(text: str) -> list[ast.stmt]:
    """Return the statements of a text, without docstrings and other strings that stand alone."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [each for each in body if not is_string(each)]
    return tree.body


def is_string(statement: ast.stmt) -> bool:
    value = getattr(statement, "value", None) if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def is_import(statement: ast.stmt) -> bool:
    return isinstance(statement, (ast.Import, ast.ImportFrom))


def names_bound(statement: ast.AST) -> set[str]:
    """Return the names that a statement binds, changes an attribute or item of, or deletes, in its own scope."""
    if isinstance(statement, DEFINITIONS):
        return {statement.name}
    if is_import(statement):
        return {alias.asname or alias.name.partition(".")[0] for alias in statement.names}
    found = set()
    for node in within_scope(statement):
        if isinstance(node, DEFINITIONS):
            found.add(node.name)
        elif isinstance(getattr(node, "ctx", None), (ast.Store, ast.Del)):
            while isinstance(node, (ast.Attribute, ast.Subscript, ast.Starred)):
                node = node.value
            found |= {node.id} if isinstance(node, ast.Name) else set()
        elif is_import(node):
            found |= names_bound(node)
    return found


def within_scope(node: ast.AST) -> Iterator[ast.AST]:
    """Yield `node` and what is in it, but nothing that stands inside another scope in it."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (*SCOPES, ast.ClassDef)):
            yield child
        else:
            yield from within_scope(child)


# 2. Names -------------------------------------------------------------------------------------------------------------
def dotted_names(node: ast.AST) -> set[tuple[str, ...]]:
    """Return the names used in `node` that come from outside it, with their attributes: `a.b.c` as ("a", "b", "c").

    Annotations decide nothing and are left out.
    """
    if isinstance(node, (ast.Attribute, ast.Name)):
        attributes, place = [], node
        while isinstance(place, ast.Attribute):
            attributes, place = [place.attr, *attributes], place.value
        return {(place.id, *attributes)} if isinstance(place, ast.Name) else dotted_names(place)
    children = [child for name, value in ast.iter_fields(node) if name not in ("annotation", "returns")
                for child in (value if isinstance(value, list) else [value]) if isinstance(child, ast.AST)]
    found = set().union(*map(dotted_names, children)) if children else set()
    if not isinstance(node, SCOPES):
        return found
    local = names_local(node)
    return {name for name in found if name[0] not in local}


def names_local(scope: ast.AST) -> set[str]:
    """Return the names that belong to a function, lambda or comprehension; one imported in it does not count."""
    arguments = getattr(scope, "args", None)
    local = {node.arg for node in ast.walk(arguments) if isinstance(node, ast.arg)} if arguments else set()
    for part in (child for child in ast.iter_child_nodes(scope) if not isinstance(child, ast.arguments)):
        for node in within_scope(part):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                local.add(node.id)
            elif isinstance(node, DEFINITIONS):
                local.add(node.name)
            elif isinstance(node, ast.Global):
                return set()  # over-cautious: what it binds is everybody's
    return local


def names_at_import(definition: ast.stmt) -> set[tuple[str, ...]]:
    """Return the names that are used when a function or class is defined: decorators, defaults, bases, attributes."""
    if isinstance(definition, ast.ClassDef):
        parts = [*definition.decorator_list, *definition.bases, *definition.keywords]
        found = set().union(*(names_at_import(each) if isinstance(each, DEFINITIONS) else dotted_names(each)
                              for each in definition.body))
    else:
        arguments = definition.args
        parts, found = [*definition.decorator_list, *arguments.defaults, *filter(None, arguments.kw_defaults)], set()
    return found.union(*map(dotted_names, parts))


def imports_of(statements: Iterable[ast.stmt], package: str = "") -> Imports:
    """Return what each name stands for that is imported anywhere in `statements`, inside functions too."""
    imports: Imports = {}
    for node in (node for statement in statements for node in ast.walk(statement)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                imports.setdefault(alias.asname or top, set()).add((alias.name if alias.asname else top, ""))
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[:len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join(filter(None, [*above, node.module]))
            for alias in node.names:
                attribute = "" if alias.name == "*" else alias.name  # of a star nobody knows which names it brings
                imports.setdefault(alias.asname or alias.name, set()).add((source, attribute))
    return imports


# 3. Notebooks --------------------------------------------------------------------------------------------------------
def deciding_statements(notebook: Path) -> list[ast.stmt]:
    """Return the statements of a notebook that the first call of `run.make` rests on, the call included.

    These are, of those before it, the ones that bind a name it needs, use a random generator it needs, or call
    something for its effect on such a name (the value is neither kept nor shown). All where nothing is made. Not seen
    is an object changed by a function that gets it and returns something else. `run` stands for settings and inputs,
    which are in the key by themselves.
    """
    statements = list(notebook_statements(notebook))
    made = next((number for number, (each, _) in enumerate(statements) if calls_make(each)), None)
    if made is None:
        return [each for each, _ in statements]
    chosen, needed = {made}, names_needed(statements[made][0])
    drawn_from = set().union(*(names_bound(each) for each, _ in statements if makes_generator(each)))
    while True:
        more = {number for number, (each, shown) in enumerate(statements[:made])
                if needed & (names_bound(each) | (set() if shown else names_affected(each))
                             | (names_needed(each) & drawn_from))} - chosen
        if not more:
            return [statements[number][0] for number in sorted(chosen)]
        chosen |= more
        needed |= set().union(*(names_needed(statements[number][0]) for number in more))


def notebook_statements(notebook: Path) -> Iterator[tuple[ast.stmt, bool]]:
    """Yield the statements of a notebook's code cells, its parameters left out, and whether each is shown below one.

    Lines of IPython's own (%, !) are left out, and so is a cell that is no Python: it cannot run either.
    """
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code" or "parameters" in cell["metadata"].get("tags", ()):
            continue
        lines = "".join(cell["source"]).splitlines()
        try:
            body = parse("\n".join("" if line.startswith(("%", "!")) else line for line in lines))
        except SyntaxError:
            continue
        for statement in body:
            yield statement, statement is body[-1] and isinstance(statement, ast.Expr) and not seeds(statement)


def calls_make(statement: ast.stmt) -> bool:
    """Say whether `run.make(...)` is called in a statement, outside functions."""
    return any(isinstance(node, ast.Call) and called(node) == ("run", "make") for node in within_scope(statement))


def names_needed(statement: ast.stmt) -> set[str]:
    return {name[0] for name in dotted_names(statement)} - {"run"}


def names_affected(statement: ast.stmt) -> set[str]:
    """Return the names in calls that are made for their effect alone, other than on the screen or on `run`."""
    calls = [node.value for node in within_scope(statement)
             if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    return set().union(*(names_needed(call) for call in calls if called(call)[:1] not in NO_EFFECT))


def called(call: ast.Call) -> tuple[str, ...]:
    """Return the dotted name of what is called; () where it has none, as the value of another call."""
    names = dotted_names(call.func)
    return names.pop() if len(names) == 1 else ()


def seeds(statement: ast.Expr) -> bool:
    """Say whether a call seeds a library's own generator, whose value nobody looks at."""
    return isinstance(statement.value, ast.Call) and called(statement.value)[-1:] in (("manual_seed",), ("seed",))


def makes_generator(statement: ast.stmt) -> bool:
    """Say whether a statement keeps a new random generator: whoever draws from it changes the next draw."""
    made = called(statement.value) if isinstance(getattr(statement, "value", None), ast.Call) else ()
    return isinstance(statement, ast.Assign) and made[-1:] in (("default_rng",), ("Generator",), ("manual_seed",))
