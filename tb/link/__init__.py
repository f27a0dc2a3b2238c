"""A board that exists in Python only, behind a pseudo-terminal: the rules of rtl/link/README.md, written without a look at sw.runtime."""
