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

