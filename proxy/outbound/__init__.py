"""From the workload beside us."""
