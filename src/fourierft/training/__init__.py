"""Third floor: data, tasks, methods and the trainer, from arguments to a directory of results."""
