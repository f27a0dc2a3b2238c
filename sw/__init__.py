"""What a user runs on the host: golden models, compiler, cycle model, runtime."""
