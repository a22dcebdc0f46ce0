"""Has the process that sends a job's log wait for a line, where LAVA has it spin.

Since LAVA 2025.10 it asks again and again for the next line while it has one that waits
for its turn (`JobOutputSender.read_and_send_records` in lava_common/log.py, with
`get_nowait`), which is most of a job's time, and takes a processor for it
(docs/findings.md). Here such a question waits for a moment where there is no line, and is
answered at once where there is one. What is asked, and what comes of it, stays the same.

Python imports this where it starts a lava-run, or the server of forks that Python 3.14
puts in between; see stand_ins() in entrypoint.py.
"""
from multiprocessing.queues import Queue

# Far below the interval in which logs are sent, which is a second or more.
SECONDS = 0.02


def get_nowait(self):
    return self.get(timeout=SECONDS)


Queue.get_nowait = get_nowait
