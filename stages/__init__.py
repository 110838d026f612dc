"""Self-Rewarding Language Models (arXiv 2401.10020) as a versioned dataset builder. A file here is a verb, a folder is
a noun."""

import gc
import os
import signal
import sys

if sys.argv[0] == "-m" or sys.argv[0].endswith("srlm"):  # a command, whose imports come first
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # stopped, it ends quietly
    gc.set_threshold(20_000)  # torch and transformers make a million objects to keep: a seventh of their import's time
    # threads that wait for each other give their core up sooner: as quick alone, much quicker beside other work
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
