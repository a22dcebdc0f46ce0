"""gunicorn: LAVA imported once, then forked; answers on port 80 itself."""

bind = "0.0.0.0:80"
user = "lavaserver"
group = "lavaserver"
workers = 2
worker_class = "gthread"
threads = 8
worker_tmp_dir = "/dev/shm"
loglevel = "info"
errorlog = "/var/log/lava-server/gunicorn.log"
preload_app = True
# LAVA's log senders keep their connections and post every few seconds. With gunicorn's two
# seconds one may post just when its connection is closed; it then tries again five seconds later,
# and LAVA writes that into the job's failure comment. In a lab Apache stands in between.
keepalive = 120
