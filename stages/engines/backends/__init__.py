"""One file per engine; opened by name through `engines/open.py`, so that none costs what another imports."""
