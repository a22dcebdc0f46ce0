# What the dispatcher of a LAVA has, as JSON, asked of its own registries: the strategies that its parser
# selects from, with the action that each one makes; the values that its schemas take; protocols, built-in
# commands, kernel messages, and the signals of a test shell.
import ast
import importlib
import inspect
import json
import pkgutil
import sys
import textwrap
from unittest import mock

from lava_common.version import __version__
from lava_dispatcher import parser
from lava_dispatcher.actions.commands import CommandAction
from lava_dispatcher.utils.messages import KERNEL_MESSAGES

# The key of an action that names its method.
KEYS = {"deploy": "to", "boot": "method"}

problems = []


def asked_for(cls, values):
    """The values that a strategy asks an action for, to tell whether it accepts it."""
    source = list(ast.walk(ast.parse(textwrap.dedent(inspect.getsource(cls.accepts)))))
    # `"u-boot" in methods` asks the device.
    of_device = {
        id(node.left)
        for node in source
        if isinstance(node, ast.Compare) and ast.unparse(node.comparators[0]).startswith("device")
    }
    asked = {node.value for node in source if isinstance(node, ast.Constant) and id(node) not in of_device}
    return [value for value in values if value in asked]


def named(classes, values=()):
    """Classes by the value that asks for each; else by LAVA's name of it; else by its own."""
    takes = [asked_for(cls, values) if values else [] for cls in classes]
    names = [cls.__dict__.get("name") for cls in classes]
    found = []
    for cls, of, name in zip(classes, takes, names):
        if len(of) == 1 and takes.count(of) == 1:
            name = of[0]
        elif not isinstance(name, str) or names.count(name) > 1:
            name = cls.__name__
        found.append((name, of, cls))
    return found


def action_of(cls):
    """The action that a strategy makes: from one series on it wants the job."""
    wanted = inspect.signature(cls.action).parameters
    given = {"job": mock.MagicMock(), "parameters": {}}
    action = cls.action(*[given[name] for name in wanted])
    return {"class": type(action).__name__, "action": action.name}


def strategies(schemas):
    found = {}
    for base in vars(parser).values():
        # What a job's parser selects strategies from: 2023.01's actions have a `select`, too.
        if not (inspect.isclass(base) and hasattr(base, "select") and hasattr(base, "accepts")):
            continue
        of = found.setdefault(base.section, [])
        for name, takes, cls in named(base.__subclasses__(), schemas.get(base.section, [])):
            one = {"name": name, "takes": takes}
            try:
                one.update(action_of(cls))
            except Exception as error:
                problems.append("the %s strategy %s makes no action: %r" % (base.section, name, error))
            of.append(one)
    return found


def inside(schema):
    """What a schema of voluptuous is made of: its alternatives, or what it only gives another message to."""
    for attribute in ("validators", "_schema", "schema"):
        if hasattr(schema, attribute):
            inner = getattr(schema, attribute)
            return list(inner) if isinstance(inner, (list, tuple)) else [inner]
    return []


def texts(schema):
    """The texts that a schema takes."""
    if isinstance(schema, str):
        return [schema]
    return [text for inner in inside(schema) for text in texts(inner)]


def values(schema, key):
    """The texts that a schema takes for one of its keys."""
    if isinstance(schema, dict):
        return [text for name, value in schema.items() if key in texts(name) for text in texts(value)]
    return [text for inner in inside(schema) for text in values(inner, key)]


def schemas():
    found = {}
    for section, key in KEYS.items():
        package = importlib.import_module("lava_common.schemas." + section)
        of = found.setdefault(section, set())
        for module in pkgutil.iter_modules(package.__path__):
            name = "%s.%s" % (package.__name__, module.name)
            try:
                of.update(values(importlib.import_module(name).schema(), key))
            except Exception as error:
                problems.append("the schema %s can't be read: %r" % (name, error))
    return {section: sorted(of) for section, of in found.items()}


def signals():
    """The signals that a test shell's action tells apart: it compares their names."""
    from lava_dispatcher.actions.test.multinode import MultinodeTestAction
    from lava_dispatcher.actions.test.shell import TestShellAction

    found = set()
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(TestShellAction)))):
        if not (isinstance(node, ast.Compare) and isinstance(node.left, ast.Name) and node.left.id == "name"):
            continue
        for other in node.comparators:
            if isinstance(other, ast.Constant) and isinstance(other.value, str):
                found.add(other.value)
    director = vars(MultinodeTestAction.SignalDirector)
    found.update("LAVA_" + name[len("_on_") :].upper() for name in director if name.startswith("_on_"))
    return sorted(found)


schemas = schemas()
print(
    json.dumps(
        {
            "version": __version__,
            "strategies": strategies(schemas),
            "schemas": schemas,
            "protocols": sorted(name for name, *_ in named(parser.Protocol.__subclasses__())),
            "commands": sorted(CommandAction.builtin_commands),
            "kernel_messages": [{"start": one["start"], "kind": one["kind"]} for one in KERNEL_MESSAGES],
            "signals": signals(),
            "problems": problems,
        }
    )
)
