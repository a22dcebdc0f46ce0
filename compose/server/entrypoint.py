"""The server container: PostgreSQL, gunicorn, scheduler, publisher, coordinator.

Environment: META_LAVA_ADMIN_TOKEN (required), META_LAVA_ADMIN_PASSWORD,
META_LAVA_WORKER_NAME with META_LAVA_WORKER_TOKEN (a worker to know at once).

Each of LAVA's programs spends more than a second of processor time on imports;
here they are imported once, and the programs run in forks.
"""
import os
import re
import sys
from pathlib import Path

sys.path.insert(0, "/usr/lib/meta-lava/common")
from supervise import HERE, RUN, Supervisor, say

LOGS = Path("/var/log/lava-server")
ADMIN = "meta-lava-admin"


def main():
    token = os.environ.pop("META_LAVA_ADMIN_TOKEN", "")
    password = os.environ.pop("META_LAVA_ADMIN_PASSWORD", "")
    worker = os.environ.pop("META_LAVA_WORKER_NAME", "")
    worker_token = os.environ.pop("META_LAVA_WORKER_TOKEN", "")
    if not re.fullmatch(r"[A-Za-z0-9]{3,}", token):
        say("META_LAVA_ADMIN_TOKEN: a secret of letters and digits is needed")
        sys.exit(2)

    (RUN / "ready").unlink(missing_ok=True)
    container = Supervisor()
    container.service("postgresql", "sh", str(HERE / "server/postgresql.sh"))
    container.service(
        "coordinator",
        *("lava-coordinator", "--loglevel", "INFO"),
        *("--logfile", "/var/log/lava-coordinator.log"),
        log="/var/log/lava-coordinator.log",
    )

    os.environ["DJANGO_SETTINGS_MODULE"] = "lava_server.settings.prod"
    import django

    django.setup()
    from django.urls import get_resolver

    # What a first request would import.
    get_resolver().reverse_dict

    container.forked(
        "gunicorn",
        *("/usr/bin/gunicorn3", "--config", str(HERE / "server/gunicorn.conf.py")),
        "lava_server.wsgi",
        log=LOGS / "gunicorn.log",
    )

    def daemon(name, *arguments):
        log = LOGS / f"lava-{name}.log"
        container.forked(
            name,
            *("/usr/bin/lava-server", "manage", f"lava-{name}", "--log-file", str(log)),
            *arguments,
            log=log,
        )

    def ready():
        daemon("scheduler", "--level", "DEBUG")
        (RUN / "ready").touch()

    daemon("publisher", "--level", "INFO", "--host", "*", "--port", "8001")
    container.step(
        "accounts", lambda: accounts(token, password, worker, worker_token), ready
    )
    container.run()


def accounts(token, password, worker, worker_token):
    """What a run brings along: its secrets, and by hand its only worker."""
    import time

    from django.contrib.auth.models import User
    from django.db import OperationalError, connection
    from lava_scheduler_app.models import Worker
    from linaro_django_xmlrpc.models import AuthToken

    while True:
        try:
            connection.ensure_connection()
            break
        except OperationalError:
            # PostgreSQL is up before Django is imported; not on every machine.
            time.sleep(0.02)
    admin = User.objects.get(username=ADMIN)
    AuthToken.objects.update_or_create(
        user=admin, description="meta-lava", defaults={"secret": token}
    )
    if worker and worker_token:
        Worker.objects.update_or_create(
            hostname=worker, defaults={"token": worker_token}
        )
    if password:
        admin.set_password(password)
        admin.save()


main()
