"""Who trains: this process, worker processes, a Ray cluster."""
