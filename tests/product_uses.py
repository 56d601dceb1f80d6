"""What the product sets and never reads: attributes, keys of its counters, members of its enums.

An attribute belongs to the class that declares it. A read of an attribute of an object of unknown class counts for
every class that the reading module, or one that it imports, imports. What stands in a function that nobody names
counts for nothing: a property that only tests ask for makes no counter known to an operator.
"""

import ast
from collections.abc import Iterator
from functools import cached_property
from typing import Final

from tests.product import ClassFacts, Function, Module, Product, Scope, name_base

# Functions that read every field of the object or class that they get, and attributes that list them.
_READ_WHOLE: Final = {"asdict", "astuple", "fields", "list_figures"}
_FIELD_LISTS: Final = {"__dataclass_fields__", "__struct_fields__", "_fields"}
# Decorators that leave it to others to call a function.
_PLAIN_DECORATORS: Final = {"property", "cached_property", "staticmethod", "classmethod", "contextmanager"}
_TEMPLATES_OF: Final = "collector."  # Whose classes templates read.
_CONTAINERS: Final = {"dict", "list", "set", "Counter", "defaultdict", "OrderedDict", "bytearray"}
_WRITING: Final = {"update", "clear"}  # Methods of a dict that read nothing of it.

Use = tuple[ClassFacts, str]


class Uses:
    """Who sets and reads what in a product."""

    def __init__(self, product: Product) -> None:
        self.product = product

    # Functions that nobody names

    @cached_property
    def _dead(self) -> set[ast.AST]:
        named: dict[str, set[ast.AST | None]] = {}  # By name, the functions in which it is read; None: a module.
        functions: dict[ast.AST, str] = {}
        for module, node, scope in self.product.nodes():
            if isinstance(node, Function):
                own = module.find_own(scope) if scope and isinstance(scope[-1], ast.ClassDef) else None
                if self._is_called_by_name(node, own):
                    functions[node] = node.name
            elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
                inner = next((one for one in reversed(scope) if isinstance(one, Function)), None)
                named.setdefault(node.id if isinstance(node, ast.Name) else node.attr, set()).add(inner)
        dead: set[ast.AST] = set()
        while True:
            more = {
                node
                for node, name in functions.items()
                if node not in dead and name not in self.product.template_words and named.get(name, set()) <= dead
            }
            if not more:
                return dead
            dead |= more

    def _is_called_by_name(self, node: Function, own: ClassFacts | None) -> bool:
        decorators = {ast.unparse(one).split("(")[0].split(".")[-1] for one in node.decorator_list}
        is_free = node.name.startswith("__") or node.name == "main" or bool(decorators - _PLAIN_DECORATORS)
        return not is_free and (own is None or not self.product.has_foreign_base(own))

    def _is_live(self, scope: Scope) -> bool:
        return not any(one in self._dead for one in scope)

    # Attributes

    @cached_property
    def _declared(self) -> dict[str, set[ClassFacts]]:
        found: dict[str, set[ClassFacts]] = {}
        for facts in self.product.classes():
            for name in (*facts.annotations, *facts.values):
                found.setdefault(name, set()).add(facts)
        return found

    def find_unread_attributes(self) -> list[str]:
        """As `module.Class.attribute`: set outside of a constructor call, or counted, and read nowhere."""
        written: set[Use] = set()
        for module, node, _ in self.product.nodes():
            if isinstance(node, ast.Attribute) and not self._is_read(module, node):
                written |= set(self._find_owners(module, node))
        return sorted(f"{facts.name}.{name}" for facts, name in written if not self._has_reader(facts, name))

    def find_unread_account_fields(self) -> list[str]:
        """The same of every field of a class that is called an account, wherever it is filled."""
        return sorted(
            f"{facts.name}.{name}"
            for facts in self.product.classes()
            if facts.node.name.endswith(("Count", "Counts", "Account", "Loss"))
            for name in facts.annotations
            if not self._has_reader(facts, name)
        )

    def _has_reader(self, facts: ClassFacts, name: str) -> bool:
        if self.product.has_foreign_base(facts) or name in self._read_by_name:
            return True
        if name in self.product.template_words and facts.name.startswith(_TEMPLATES_OF):
            return True
        family = set(self.product.list_family(facts))
        for reader in self._read.get(name, ()):
            if isinstance(reader, Module):
                if facts.module.name in self._find_near(reader):
                    return True
            elif reader in family or facts in self.product.list_family(reader) or self._conforms(facts, reader):
                return True
        return False

    def _conforms(self, facts: ClassFacts, protocol: ClassFacts) -> bool:
        """Whether a class has all that a protocol asks for."""
        own = {name for one in self.product.list_family(facts) for name in one.list_names()}
        return protocol.is_protocol and own.issuperset(protocol.list_names())

    @cached_property
    def _read(self) -> dict[str, set[ClassFacts | Module]]:
        """By attribute, the classes of which it is read; where that is not known, the module that reads it."""
        found: dict[str, set[ClassFacts | Module]] = {}
        for module, node, scope in self.product.nodes():
            if isinstance(node, ast.Attribute) and node.attr in self._declared and self._is_live(scope):
                if self._is_read(module, node):
                    owner = self.product.find_type(module, node.value, self.product.list_names(module, node))
                    found.setdefault(node.attr, set()).add(owner if isinstance(owner, ClassFacts) else module)
            elif isinstance(node, ast.Call | ast.Attribute) and self._is_live(scope):
                for facts, name in self._list_whole(module, node):
                    found.setdefault(name, set()).add(facts)
        return found

    @cached_property
    def _read_by_name(self) -> set[str]:
        """Attributes that a pattern or `getattr` names."""
        found: set[str] = set()
        for _, node, scope in self.product.nodes():
            match node:
                case ast.MatchClass(kwd_attrs=names):
                    found |= set(names)
                case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=str(name)), *_]):
                    found |= {name} if self._is_live(scope) else set()
        return found

    def _is_read(self, module: Module, node: ast.Attribute) -> bool:
        """Whether it is read; not where it is set, nor where an element of it is set and it is a plain container."""
        parent = module.parents[node]
        if not isinstance(parent, ast.Subscript) or parent.value is not node or isinstance(parent.ctx, ast.Load):
            return isinstance(node.ctx, ast.Load)
        return not all(self._is_plain_container(facts, name) for facts, name in self._find_owners(module, node))

    def _is_plain_container(self, facts: ClassFacts, name: str) -> bool:
        """Whether nobody but its readers sees what is put into it: of a memory map others do."""
        for one in self.product.list_family(facts):
            if name in one.annotations:
                return name_base(one.annotations[name]) in _CONTAINERS
            if name in one.values:
                _, value = one.values[name]
                is_made = isinstance(value, ast.Call) and name_base(value.func) in _CONTAINERS
                return is_made or isinstance(value, ast.Dict | ast.List | ast.DictComp | ast.ListComp)
        return False

    def _find_owners(self, module: Module, node: ast.Attribute) -> Iterator[Use]:
        """Of whose attribute an expression is; where the class is not known, the only one that declares it."""
        owner = self.product.find_type(module, node.value, self.product.list_names(module, node))
        declaring = self._declared.get(node.attr, set())
        if isinstance(owner, ClassFacts):
            yield owner, node.attr
        elif owner is None and len(declaring) == 1:
            yield next(iter(declaring)), node.attr

    def _list_whole(self, module: Module, node: ast.Call | ast.Attribute) -> Iterator[Use]:
        """Every field, where an expression reads all fields of an object or class."""
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            whole = node.args[0] if name in _READ_WHOLE and node.args else None
        else:
            whole = node.value if node.attr in _FIELD_LISTS else None
        if whole is None or (isinstance(whole, ast.Name) and whole.id == "self"):  # To add up accounts exports none.
            return
        found = self.product.find_type(module, whole, self.product.list_names(module, node))
        if found is None and isinstance(whole, ast.Name):
            found = self.product.find_class(module, whole.id)
        for facts in self.product.list_family(found) if isinstance(found, ClassFacts) else ():
            yield from ((facts, name) for name in facts.annotations)

    def _find_near(self, module: Module) -> set[str]:
        """Names of a module, of those that it imports from, and of those that these import from."""
        if module.name not in self._near:
            direct = {origin for origin, _ in module.imports.values()}
            far = {
                origin
                for name in direct & self.product.modules.keys()
                for origin, _ in self.product.modules[name].imports.values()
            }
            self._near[module.name] = {module.name} | direct | far
        return self._near[module.name]

    @cached_property
    def _near(self) -> dict[str, set[str]]:
        return {}

    # Keys of dicts

    def find_unread_keys(self) -> list[str]:
        """As `module.Class.attribute[key]`: added to under a constant key that nobody reads, of a dict that nobody
        reads as a whole."""
        written: set[tuple[Use, str]] = set()
        read: set[tuple[Use, str]] = set()
        whole: set[Use] = set()
        for module, node, scope in self.product.nodes():
            if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Load):
                continue
            owners, parent = set(self._find_owners(module, node)), module.parents[node]
            key = parent.slice if isinstance(parent, ast.Subscript) and parent.value is node else None
            text = key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else None
            is_read = key is None or isinstance(parent.ctx, ast.Load)  # type: ignore[attr-defined]
            if isinstance(parent, ast.Attribute) and parent.attr in _WRITING:
                continue
            if not is_read and text is not None and isinstance(module.parents[parent], ast.AugAssign):
                written |= {(owner, text) for owner in owners}
            elif is_read and text is not None and self._is_live(scope):
                read |= {(owner, text) for owner in owners}
            elif is_read and self._is_live(scope):
                whole |= owners
        return sorted(
            f"{facts.name}.{name}[{key!r}]" for (facts, name), key in written - read if (facts, name) not in whole
        )

    # Members of enums

    def find_unread_members(self, facts: ClassFacts) -> list[str]:
        """As `Enum.MEMBER`: named by nobody, or only as the key under which something is put."""
        found = self._members_read.get(facts, set())
        members = [
            target.id
            for node in facts.node.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        ]
        return [f"{facts.node.name}.{name}" for name in members if name not in found]

    @cached_property
    def _members_read(self) -> dict[ClassFacts, set[str]]:
        found: dict[ClassFacts, set[str]] = {}
        for module, node, scope in self.product.nodes():
            if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name) or not self._is_live(scope):
                continue
            parent = module.parents[node]
            if isinstance(parent, ast.Dict) and node in parent.keys:
                continue
            facts = self.product.find_class(module, node.value.id)
            if facts is not None:
                found.setdefault(facts, set()).add(node.attr)
        return found
