"""Where the backbone runs: in this process, or on a Ray cluster. Either takes tasks and gives their features."""
