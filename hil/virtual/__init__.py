"""The virtual rig: Linux network namespaces, a link emulator, a virtual RouterOS, and the real SIP programs."""
