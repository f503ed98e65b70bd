"""The command line: parses arguments and calls one function of a lower layer."""
