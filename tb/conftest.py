"""Settings of all tests: reproducible random examples, and no test may leave Amaranth's or hypothesis' surprises behind."""

import os
import signal

from hypothesis import HealthCheck, settings

# The same examples in every run unless a seed is asked for; no deadline, since machines differ.
settings.register_profile("flexwave", deadline=None, derandomize=True, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, max_examples=500, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "flexwave"))

# A job in the background begins with interrupts ignored, and so would the processes that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
