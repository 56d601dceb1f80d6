"""The product as syntax trees: its modules, its classes, and of which class the value of an expression is.

Types come from annotations, constructors and what functions say they return, as far as they are plain; where nothing
is known the answer is None. Nothing of the product is run.
"""

import ast
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
SIDES: Final = ("common", "sensor", "collector")

Function = ast.FunctionDef | ast.AsyncFunctionDef
Scope = tuple[ast.AST, ...]  # Functions and classes around a node, outermost first.

# Of containers: whose elements the first argument of the annotation names, and whose the last; and wrappers of one.
_FIRST: Final = {"list", "tuple", "set", "frozenset", "Sequence", "Iterable", "Iterator", "Collection", "deque"}
_LAST: Final = {"dict", "Mapping", "MutableMapping", "OrderedDict", "defaultdict"}
_WRAPPERS: Final = {"Final", "ClassVar", "Optional", "Annotated", "Awaitable"}
# Bases of libraries that call no method and read no attribute of a class that extends them.
_PASSIVE: Final = {"Protocol", "Generic", "NamedTuple", "Struct", "Exception", "ValueError", "OSError", "IntEnum"}


@dataclass(eq=False, slots=True)
class ClassFacts:
    """One class of the product, and its attributes."""

    module: "Module"
    node: ast.ClassDef
    annotations: dict[str, ast.expr] = field(default_factory=dict)
    values: dict[str, tuple[Function, ast.expr]] = field(default_factory=dict)  # What an attribute is made as.
    methods: dict[str, Function] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """With its module."""
        return f"{self.module.name}.{self.node.name}"

    def list_names(self) -> set[str]:
        """Of attributes and methods."""
        return {*self.annotations, *self.values, *self.methods}

    @property
    def is_protocol(self) -> bool:
        """Whether it stands for other classes."""
        return any(name_base(base) == "Protocol" for base in self.node.bases)


@dataclass(frozen=True, slots=True)
class Many:
    """A container of objects of one class."""

    of: ClassFacts


Type = ClassFacts | Many | None


class Module:
    """One file."""

    def __init__(self, name: str, tree: ast.Module) -> None:
        self.name = name
        self.classes: dict[str, ClassFacts] = {}
        self.functions: dict[str, Function] = {}
        self.imports: dict[str, tuple[str, str]] = {}  # Module and name there, by name here.
        self.scopes: dict[ast.AST, Scope] = {}
        self.parents: dict[ast.AST, ast.AST] = {}
        self._visit(tree, ())

    def _visit(self, node: ast.AST, scope: Scope) -> None:
        inner = (*scope, node) if isinstance(node, ast.ClassDef | Function | ast.Lambda) else scope
        for child in ast.iter_child_nodes(node):
            self.scopes[child], self.parents[child] = inner, node
            if isinstance(child, ast.ImportFrom) and child.module:
                self.imports |= {one.asname or one.name: (child.module, one.name) for one in child.names}
            elif isinstance(child, ast.ClassDef):
                self.classes[child.name] = ClassFacts(self, child)
            elif isinstance(child, Function) and not inner:
                self.functions[child.name] = child
            self._visit(child, inner)

    def find_own(self, scope: Scope) -> ClassFacts | None:
        """The class of whose method a scope is, or of whose body."""
        found = [node for node in scope if isinstance(node, ast.ClassDef)]
        return self.classes[found[-1].name] if found else None


class Product:
    """All modules of a tree, and the attributes that its templates read."""

    def __init__(self, root: Path = ROOT) -> None:
        self.modules: dict[str, Module] = {}
        texts: list[str] = []
        for path in sorted(path for side in SIDES for path in (root / side).rglob("*")):
            if path.suffix == ".py":
                name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
                self.modules[name] = Module(name, ast.parse(path.read_text(), str(path)))
            elif path.suffix == ".html":
                texts += re.findall(r"\{[{%].*?[%}]\}", path.read_text(), re.DOTALL)
        self.template_words = frozenset(re.findall(r"\.([A-Za-z_]\w*)", "\n".join(texts)))
        self._locals: dict[Function, dict[str, Type]] = {}
        for facts in self.classes():
            self._declare(facts)

    def classes(self) -> Iterator[ClassFacts]:
        """Of all modules."""
        for module in self.modules.values():
            yield from module.classes.values()

    def nodes(self) -> Iterator[tuple[Module, ast.AST, Scope]]:
        """Every node of every tree."""
        for module in self.modules.values():
            for node, scope in module.scopes.items():
                yield module, node, scope

    def list_family(self, facts: ClassFacts) -> Iterator[ClassFacts]:
        """The class and those of the product that it extends."""
        yield facts
        for base in facts.node.bases:
            found = self.read_annotation(facts.module, base)
            if isinstance(found, ClassFacts) and found is not facts:
                yield from self.list_family(found)

    def has_foreign_base(self, facts: ClassFacts) -> bool:
        """Whether it extends a class of a library, which may call its methods and read its attributes."""
        for base in facts.node.bases:
            found = self.read_annotation(facts.module, base)
            if found is None and name_base(base) not in _PASSIVE:
                return True
            if isinstance(found, ClassFacts) and found is not facts and self.has_foreign_base(found):
                return True
        return False

    def find_class(self, module: Module, name: str) -> ClassFacts | None:
        """By the name that a module has for it."""
        found, name = self._follow(module, name)
        return found.classes.get(name) if found is not None else None

    def _follow(self, module: Module, name: str) -> tuple[Module | None, str]:
        """The module of the product where a name of this one is made."""
        for _ in range(5):
            if name not in module.imports or name in module.classes:
                return module, name
            origin, name = module.imports[name]
            if origin not in self.modules:
                return None, name
            module = self.modules[origin]
        return None, name

    def _declare(self, facts: ClassFacts) -> None:
        for node in facts.node.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                facts.annotations[node.target.id] = node.annotation
            elif isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Name):
                # As `today = column(np.float32)`: it is declared, and its type is not known.
                if target.id != "__slots__":
                    facts.annotations[target.id] = ast.Constant(None)
            elif isinstance(node, Function):
                facts.methods[node.name] = node
                for inner in ast.walk(node):
                    if isinstance(inner, ast.AnnAssign) and _is_own(inner.target):
                        facts.annotations[inner.target.attr] = inner.annotation  # type: ignore[union-attr]
                    elif isinstance(inner, ast.Assign):
                        for target, value in _pair_targets(inner):
                            if _is_own(target):
                                facts.values.setdefault(target.attr, (node, value))  # type: ignore[attr-defined]

    # Types

    def read_annotation(self, module: Module, node: ast.expr | None) -> Type:
        """The class that an annotation names, or many of it."""
        match node:
            case ast.Constant(value=str(text)):
                return self.read_annotation(module, ast.parse(text, mode="eval").body)
            case ast.Name(id=name):
                return self.find_class(module, name)
            case ast.BinOp(left=left, right=right):
                return _choose(self.read_annotation(module, one) for one in (left, right))
            case ast.Subscript(value=value, slice=inside):
                inner = inside.elts if isinstance(inside, ast.Tuple) else [inside]
                outer = name_base(value)
                if outer in _WRAPPERS:
                    return self.read_annotation(module, inner[0])
                if outer in _FIRST | _LAST:
                    found = self.read_annotation(module, inner[0 if outer in _FIRST else -1])
                    return Many(found) if isinstance(found, ClassFacts) else None
                return self.read_annotation(module, value)
        return None

    def find_type(self, module: Module, node: ast.expr, names: Mapping[str, Type]) -> Type:
        """Of the value of an expression; `names`: of local variables."""
        match node:
            case ast.Name(id=name):
                return names.get(name)
            case ast.Await(value=value) | ast.NamedExpr(value=value):
                return self.find_type(module, value, names)
            case ast.Attribute(value=value, attr=name):
                found = self.find_type(module, value, names)
                return self._find_member(found, name) if isinstance(found, ClassFacts) else None
            case ast.Subscript(value=value):
                found = self.find_type(module, value, names)
                return found.of if isinstance(found, Many) else None
            case ast.IfExp(body=body, orelse=orelse):
                return _choose(self.find_type(module, one, names) for one in (body, orelse))
            case ast.BoolOp(values=values):
                return _choose(self.find_type(module, one, names) for one in values)
            case ast.Call():
                return self._find_result(module, node, names)
        return None

    def _find_member(self, facts: ClassFacts, name: str) -> Type:
        for one in self.list_family(facts):
            if name in one.annotations:
                return self.read_annotation(one.module, one.annotations[name])
            if name in one.methods:
                is_property = any(ast.unparse(d).endswith("property") for d in one.methods[name].decorator_list)
                return self.read_annotation(one.module, one.methods[name].returns) if is_property else None
            if name in one.values:
                method, value = one.values[name]
                return self.find_type(one.module, value, self._find_locals(one.module, one, method))
        return None

    def _find_result(self, module: Module, node: ast.Call, names: Mapping[str, Type]) -> Type:
        function = node.func.value if isinstance(node.func, ast.Subscript) else node.func
        if isinstance(function, ast.Name):
            origin, name = self._follow(module, function.id)
            if origin is None:
                return None
            if name in origin.classes:
                return origin.classes[name]
            if name not in origin.functions:
                return None
            found = self.read_annotation(origin, origin.functions[name].returns)
            made = node.args[0] if node.args else None  # As in `make(Class, ..)`, which gives one of it.
            return self.find_class(module, made.id) if found is None and isinstance(made, ast.Name) else found
        if not isinstance(function, ast.Attribute):
            return None
        owner = self.find_type(module, function.value, names)
        if owner is None and isinstance(function.value, ast.Name):
            owner = self.find_class(module, function.value.id)
        if isinstance(owner, Many):
            if function.attr == "values":
                return owner
            return owner.of if function.attr in ("get", "pop", "popleft") else None
        for one in self.list_family(owner) if owner is not None else ():
            if function.attr in one.methods:
                return self.read_annotation(one.module, one.methods[function.attr].returns)
        return None

    def list_names(self, module: Module, node: ast.AST) -> dict[str, Type]:
        """Types of the local variables where a node stands."""
        names: dict[str, Type] = {}
        scope = module.scopes[node]
        for outer, function in itertools.pairwise((None, *scope)):
            if isinstance(function, Function):
                own = module.classes[outer.name] if isinstance(outer, ast.ClassDef) else None
                names |= self._find_locals(module, own, function)
        return names

    def _find_locals(self, module: Module, own: ClassFacts | None, function: Function) -> dict[str, Type]:
        if function in self._locals:
            return self._locals[function]
        names = self._locals[function] = {}
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        for argument in arguments:
            names[argument.arg] = self.read_annotation(module, argument.annotation)
        if own is not None and arguments and arguments[0].arg == "self":
            names["self"] = own
        for node in ast.walk(function):
            if isinstance(node, ast.Assign):
                for target, value in _pair_targets(node):
                    self._bind(module, target, value, names)
            elif isinstance(node, ast.NamedExpr):
                self._bind(module, node.target, node.value, names)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names[node.target.id] = self.read_annotation(module, node.annotation)
            elif isinstance(node, ast.For | ast.comprehension) and isinstance(node.target, ast.Name):
                found = self.find_type(module, node.iter, names)
                names[node.target.id] = found.of if isinstance(found, Many) else None
        return names

    def _bind(self, module: Module, target: ast.expr, value: ast.expr, names: dict[str, Type]) -> None:
        """A variable that is bound to two types, or to an unknown one, has none."""
        if isinstance(target, ast.Name) and not (isinstance(value, ast.Constant) and value.value is None):
            found = self.find_type(module, value, names)
            names[target.id] = found if names.get(target.id, found) is found else None


def name_base(node: ast.expr) -> str:
    """The last part of a dotted name, without what stands in brackets."""
    return ast.unparse(node).split("[")[0].split(".")[-1]


def _choose(found: Iterable[Type]) -> Type:
    """The only type among some that may be None."""
    known = {one for one in found if one is not None}
    return known.pop() if len(known) == 1 else None


def _pair_targets(node: ast.Assign) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Each target with what it is assigned."""
    for target in node.targets:
        if not isinstance(target, ast.Tuple):
            yield target, node.value
        elif isinstance(node.value, ast.Tuple) and len(node.value.elts) == len(target.elts):
            yield from zip(target.elts, node.value.elts, strict=True)


def _is_own(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
