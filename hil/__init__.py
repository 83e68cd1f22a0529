"""The bench: scenarios written once, run on the virtual rig or on a real one.

Nothing in here imports the product. The agent is started as a process and spoken to over wires and files, so that a
mistake shared between product and test cannot hide.
"""
