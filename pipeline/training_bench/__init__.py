"""What a training step costs in every usual way to write it, each in a process of its own."""
