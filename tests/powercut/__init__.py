"""Power cuts, full, read-only and frozen disks, and the write budget, on a real ext4 on a loop device."""
