"""What a statistics store says: numbers of every task and site, of pairs of tasks, of groups within one."""
