"""How much to send at a time: payload, bytes under way and patience follow what the line has shown so far."""

from gen.link import CRC_BYTES, PAYLOAD_BYTES, RECEIVE_BYTES, REQUEST_HEADER

FRAME_BYTES = 2 + sum(size for _, size in REQUEST_HEADER) + CRC_BYTES       # a request without payload, a flag before and behind it
LARGEST = 2 * (FRAME_BYTES + PAYLOAD_BYTES)     # a request every byte of which is escaped
UNDER_WAY = RECEIVE_BYTES - LARGEST             # noise may make the host believe that one request more has been worked through
REQUESTS = 96           # under way at most; below the board's REPEATABLE
LEAST, FIRST = 16, 64   # bytes of payload
RUN = 4                 # answers in a row after which the payload doubles
FEW = 8                 # requests under way at least: what comes behind a lost one tells that it was lost, long before the wait is over
WAIT = (0.02, 4.0)      # seconds without an answer before a repetition: least, most


class Pace:
    """Payload and bytes under way grow with every answer and halve with every loss; the wait follows the measured round trips."""

    def __init__(self):
        self.payload = FIRST
        self.allowance = float(2 * FRAME_BYTES + FIRST)     # bytes under way
        self.wait = 1.0                                     # seconds
        self._run = 0
        self._trip, self._spread = 0.0, 0.0

    def answered(self, payload: int):
        """A request with so many bytes was answered. Shorter ones than now tell nothing about longer ones."""
        self._run += payload >= self.payload
        if self._run >= RUN:
            self._run = 0
            self.payload = min(PAYLOAD_BYTES, 2 * self.payload)
        self.allowance = min(UNDER_WAY, self.allowance + FRAME_BYTES + self.payload)
        if self._trip:
            self.wait = min(max(self._trip + 4 * self._spread, WAIT[0]), WAIT[1])

    def lost(self):
        """A request or its answer was lost."""
        self._run = 0
        self.payload = max(LEAST, self.payload // 2)
        self.allowance = min(UNDER_WAY, max(FEW * (FRAME_BYTES + self.payload), self.allowance / 2))

    def silent(self):
        """Nothing has come for `wait`."""
        self.lost()
        self.allowance = 1.0    # one request, until it is answered
        self.wait = min(WAIT[1], 2 * self.wait)

    def measured(self, seconds: float):
        """An answer took so long. The wait becomes the mean of these times and four mean deviations, as in TCP."""
        if self._trip:
            self._spread += (abs(seconds - self._trip) - self._spread) / 4
            self._trip += (seconds - self._trip) / 8
        else:
            self._trip, self._spread = seconds, seconds / 2
