"""The I/O adapters against real local servers, sockets and files."""
