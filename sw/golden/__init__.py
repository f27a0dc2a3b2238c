"""Golden models: the numbers every part of the system must reproduce bit for bit. Plain numpy, no code shared with hardware or compiler."""
