"""The gateway's log in a process of its own, as the stack has it; run by serving_ours.py.

python benchmarks/serving_receiver.py REQUESTS GATEWAY  # folders; says when it takes log lines, until it is killed
"""

import sys
import threading
from pathlib import Path

from tokka.gateway.access_log import Receiver, listen
from tokka.request_log.log import Writer

if __name__ == "__main__":
    receiver = Receiver(Writer(Path(sys.argv[1]), "gateway"), listen(Path(sys.argv[2])))
    print("ready", flush=True)
    threading.Event().wait()
