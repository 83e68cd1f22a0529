"""Tests of the virtual RouterOS: its wire, its menus, its faults, and what foreign clients make of it."""
