"""Probes of one path each; what they measure becomes facts."""
