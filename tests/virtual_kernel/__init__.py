"""The kernel plane of the virtual router, against real namespaces of this machine's kernel."""
