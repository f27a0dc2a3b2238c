"""The specification as code (configuration, instructions, registers, timing) and what makes files from it."""
