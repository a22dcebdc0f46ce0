"""Gives LAVA's jobs the processors before the senders of their logs.

Since LAVA 2025.10 the process that sends a job's log to the server spins while it has a
line that waits for its turn (`JobOutputSender.read_and_send_records` in lava_common/log.py),
which is most of a job's time. With many jobs at once these processes take the processors
from the jobs themselves. Here they are made nicer, and else left alone.
"""
import os
import time

NICE = 10
# A fork that has not come to its exec yet looks the same; it takes no time and no processor.
AGE, CPU = 1.0, 0.1
TICKS = os.sysconf("SC_CLK_TCK")


def stat(pid):
    """Parent, seconds of processor time, and when it began, in seconds since boot."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return int(fields[1]), (int(fields[11]) + int(fields[12])) / TICKS, int(fields[19]) / TICKS


def title(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read().replace(b"\0", b" ").decode(errors="replace")


def is_forker(text):
    """The server of forks that Python 3.14 puts in between; and what it has forked."""
    return "multiprocessing.forkserver" in text


def is_job(text):
    return "lava-run" in text and not is_forker(text)


def is_sender(pid, parent):
    above, own = title(parent), title(pid)
    if is_forker(above):
        return is_forker(own) and is_job(title(stat(parent)[0]))
    return is_job(above) and is_job(own)


def main():
    done = set()
    while True:
        pids = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        done &= pids
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        for pid in pids - done:
            try:
                parent, cpu, began = stat(pid)
                if now - began < AGE:
                    continue
                sender = parent > 1 and is_sender(pid, parent)
                if sender and cpu < CPU:
                    continue
                done.add(pid)
                if sender:
                    os.setpriority(os.PRIO_PROCESS, pid, NICE)
            except (OSError, ValueError, IndexError):
                # It ended meanwhile.
                continue
        # A pause between two looks: nothing tells of a process that begins.
        time.sleep(0.25)


main()
