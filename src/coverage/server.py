# What the server of a LAVA has, as JSON, asked of its own templates: the device-types, and the texts by which
# LAVA knows that a boot loader failed.
import json
import os
import re

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lava_server.settings.prod")

import django

django.setup()

import yaml
from lava_scheduler_app import environment

SUFFIX = ".jinja2"
problems, errors = [], set()


def constants(device):
    """The part of a device that has them: all of it takes ten times as long to read."""
    # What a template writes in quotes may go on at the begin of a line, so a part ends where the next key is.
    part = re.search(r"^constants:.*?(?=^[\w-]+:|\Z)", device, re.MULTILINE | re.DOTALL)
    return (yaml.load(part.group(), Loader) or {}).get("constants") or {} if part else {}


Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# 2023.01 makes it in a function, later ones when they are imported.
templates = getattr(environment, "DEVICE_TYPES_JINJA_ENV", None) or environment.device_types()
names = sorted({name[: -len(SUFFIX)] for name in templates.list_templates() if name.endswith(SUFFIX)})
for name in names:
    try:
        device = templates.get_template(name + SUFFIX).render(connection_command="true")
        for loader, values in constants(device).items():
            if isinstance(values, dict):
                errors.update((loader, text) for text in values.get("error-messages") or [])
    except Exception as error:
        problems.append("the template %s can't be read: %s" % (name, str(error).split("\n")[0]))

print(
    json.dumps(
        {
            "device_types": [name for name in names if not name.startswith("base")],
            "errors": [{"loader": loader, "text": text} for loader, text in sorted(errors)],
            "problems": problems,
        }
    )
)
