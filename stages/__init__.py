"""Self-Rewarding Language Models (arXiv 2401.10020) as a versioned dataset builder. A file here is a verb, a folder is
a noun."""

import signal
import sys

if sys.argv[0] == "-m" or sys.argv[0].endswith("srlm"):  # a command, whose imports come first: stopped, it ends quietly
    signal.signal(signal.SIGINT, signal.SIG_DFL)
