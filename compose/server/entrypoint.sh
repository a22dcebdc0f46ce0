#!/bin/bash
# The server container: PostgreSQL, gunicorn, scheduler, publisher, coordinator.
# Environment: META_LAVA_ADMIN_TOKEN (required), META_LAVA_ADMIN_PASSWORD,
# META_LAVA_WORKER_NAME with META_LAVA_WORKER_TOKEN (a worker to know at once).
here=/usr/lib/meta-lava
. $here/common/supervise.sh

logs=/var/log/lava-server
service_log() {
    case $1 in
    gunicorn) tail -v -n 20 $logs/gunicorn.log $logs/django.log ;;
    publisher | scheduler) tail -v -n 20 "$logs/lava-$1.log" ;;
    coordinator) tail -v -n 20 /var/log/lava-coordinator.log ;;
    esac
}
finished() { false; }

: "${META_LAVA_ADMIN_TOKEN:?is not set: a secret for the administrator}"
for value in "$META_LAVA_ADMIN_TOKEN" "${META_LAVA_WORKER_NAME:-}" "${META_LAVA_WORKER_TOKEN:-}"; do
    case $value in
    *[!A-Za-z0-9._-]*)
        say "tokens and worker names are made of letters, digits, '.', '_' and '-'"
        exit 2
        ;;
    esac
done

cd /
# gunicorn takes longest, so it starts first; nothing is asked of the database
# before the first request.
service gunicorn env DJANGO_SETTINGS_MODULE=lava_server.settings.prod \
    gunicorn3 --config $here/server/gunicorn.conf.py lava_server.wsgi
service postgresql setpriv --reuid postgres --regid postgres --init-groups \
    $here/server/postgres -c config_file="$(readlink $here/server/cluster.conf)"
service publisher lava-server manage lava-publisher --level INFO \
    --log-file $logs/lava-publisher.log --host '*' --port 8001
service coordinator lava-coordinator --loglevel INFO --logfile /var/log/lava-coordinator.log

sql="INSERT INTO linaro_django_xmlrpc_authtoken (secret, user_id, created_on, description)
SELECT '$META_LAVA_ADMIN_TOKEN', id, now(), 'meta-lava' FROM auth_user WHERE username = 'meta-lava-admin'
ON CONFLICT DO NOTHING;"
if [ -n "${META_LAVA_WORKER_NAME:-}" ] && [ -n "${META_LAVA_WORKER_TOKEN:-}" ]; then
    # 0: active; 1: offline, until its first ping.
    sql+="INSERT INTO lava_scheduler_app_worker (hostname, health, state, last_ping, job_limit, token)
    VALUES ('$META_LAVA_WORKER_NAME', 0, 1, now(), 0, '$META_LAVA_WORKER_TOKEN')
    ON CONFLICT (hostname) DO UPDATE SET token = EXCLUDED.token;"
fi
until answer=$(psql -qtA -v ON_ERROR_STOP=1 -h /var/run/postgresql -U postgres -d lavaserver -c "$sql" 2>&1); do
    kill -0 "${service_pid[postgresql]}" 2> /dev/null || break
    sleep 0.02
done
service scheduler lava-server manage lava-scheduler --level DEBUG --log-file $logs/lava-scheduler.log
touch /run/meta-lava/ready
supervise
