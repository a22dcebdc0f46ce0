# A device as LAVA renders it, by LAVA's own code: name, device-type, the job's context as JSON, dictionary.
import json
import os
import sys

name, device_type, context, dictionary = sys.argv[1:]
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lava_server.settings.prod")

import django

django.setup()

from django.conf import settings
from lava_scheduler_app import environment

folder = getattr(settings, "DEVICES_PATH", "/etc/lava-server/dispatcher-config/devices")
with open(os.path.join(folder, name + ".jinja2"), "w") as file:
    file.write(dictionary)
# 2023.01 makes them in a function, later ones when they are imported.
templates = getattr(environment, "DEVICES_JINJA_ENV", None) or environment.devices()
context = dict(json.loads(context), scheduled_device_name=name, scheduled_device_type=device_type)
print(templates.get_template(name + ".jinja2").render(**context))
