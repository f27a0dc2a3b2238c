"""A serial port, of this program alone, with trouble told in one line."""

import contextlib
import errno
import select

from sw.runtime.errors import MachineError, UserError

BAUD = 2_000_000
READ_BYTES = 1 << 16
STUCK = 5.0     # seconds after which bytes that nobody takes mean that nobody is there
REASONS = {
    errno.ENOENT: "does not exist",
    errno.EACCES: "may not be opened by you (Linux: by members of its group only, often dialout)",
    errno.EPERM: "may not be opened by you",
    errno.EAGAIN: "is in use by another program",
    errno.EBUSY: "is in use by another program",
}


class Port:
    """Bytes to and from `device`, 8N1 without flow control.

    Raises UserError if it cannot be opened, later MachineError once it has gone.
    """

    def __init__(self, device: str, baud: int = BAUD):
        import serial

        self.device = device
        try:
            self._serial = serial.Serial(device, baud, timeout=0, write_timeout=STUCK, exclusive=True)
        except serial.SerialException as error:
            raise UserError(f"device = {device!r} {REASONS.get(error.errno or 0, 'is not a serial port')}") from None
        except (ValueError, OverflowError):
            raise UserError(f"baud = {baud} is not a rate of device {device!r}") from None
        with contextlib.suppress(ValueError, OSError, NotImplementedError):     # of a port that does not know of it
            self._serial.set_low_latency_mode(True)     # an FTDI chip would otherwise keep what it has received for up to 16 ms

    def read(self, seconds: float) -> bytes:
        """What has arrived; waits at most `seconds` for the first byte."""
        try:
            ready, _, _ = select.select([self._serial.fileno()], [], [], max(0.0, seconds))
            return self._serial.read(READ_BYTES) if ready else b""
        except (OSError, TypeError, ValueError) as error:    # the last two: closed, or a descriptor that is none
            raise self._gone() from error

    def write(self, data: bytes):
        """Send bytes."""
        try:
            self._serial.write(data)
        except (OSError, TypeError, ValueError) as error:
            raise self._gone() from error

    def close(self):
        """Give the port back."""
        with contextlib.suppress(OSError):  # it has gone
            self._serial.close()

    def _gone(self) -> MachineError:
        return MachineError(f"device = {self.device!r} has gone")
