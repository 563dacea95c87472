"""The worker node: its name, accounts, disks, locks and clocks."""
