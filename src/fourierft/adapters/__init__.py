"""Second floor: fine-tunes as files. Read, look into, merge."""
