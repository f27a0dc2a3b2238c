// Runs a simulated board for ever: its UART wires are a pseudo-terminal. boards/simulate.py builds and starts it.
//
// The first line on standard output names the terminal. When nothing is going on the clock stands still until a byte comes.

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <fcntl.h>
#include <memory>
#include <poll.h>
#include <sys/prctl.h>
#include <termios.h>
#include <unistd.h>

#include "Vboard.h"
#include "board_config.h"                       // DIVISOR

constexpr int BITS = 10;                        // start, eight bits, stop
constexpr uint64_t LOOK = 64;                   // cycles between looks at the terminal
constexpr uint64_t QUIET = 4096 + 64 * DIVISOR;  // idle cycles after which the clock may stand still
constexpr int WAIT_MS = 100;

volatile sig_atomic_t stop = 0;

struct Terminal {
    int master, slave;      // the slave is held open, so that a host may come and go

    Terminal() {
        master = posix_openpt(O_RDWR | O_NOCTTY);
        if (master < 0 || grantpt(master) || unlockpt(master)) { perror("pseudo-terminal"); exit(2); }
        slave = open(ptsname(master), O_RDWR | O_NOCTTY);
        termios settings;
        if (slave < 0 || tcgetattr(slave, &settings)) { perror("pseudo-terminal"); exit(2); }
        cfmakeraw(&settings);
        tcsetattr(slave, TCSANOW, &settings);
        fcntl(master, F_SETFL, O_NONBLOCK);
        printf("%s\n", ptsname(master));
        fflush(stdout);
    }
    bool wait(int milliseconds) const {
        pollfd what{master, POLLIN, 0};
        return poll(&what, 1, milliseconds) > 0;
    }
};

int main() {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int number : {SIGINT, SIGTERM}) signal(number, [](int) { stop = 1; });
    Terminal terminal;
    auto context = std::make_unique<VerilatedContext>();
    auto board = std::make_unique<Vboard>(context.get());

    std::deque<unsigned char> to_board;
    uint64_t now = 0, last = 0;             // cycles; the last one in which something happened
    int sending = 0, left = 0;              // bits of the present byte still to send, cycles of the present bit
    unsigned frame = 0;
    int receiving = 0, sample = 0;          // bits still to sample, cycles to the next sample
    unsigned char byte = 0;

    board->rx = 1;
    board->rst = 1;
    while (!stop && !context->gotFinish()) {
        if (now == 4) board->rst = 0;
        if (now % LOOK == 0) {
            unsigned char buffer[512];
            ssize_t count = to_board.size() < sizeof buffer ? read(terminal.master, buffer, sizeof buffer) : 0;
            if (count > 0) to_board.insert(to_board.end(), buffer, buffer + count);
            if (now - last > QUIET && to_board.empty()) {
                terminal.wait(WAIT_MS);
                last = now - QUIET + LOOK;   // a few cycles, and look again
            }
        }
        if (!sending && !to_board.empty()) {
            frame = to_board.front() << 1 | 1 << (BITS - 1);
            to_board.pop_front();
            sending = BITS;
            left = 0;
        }
        if (sending) {
            if (left == 0) { board->rx = frame & 1; frame >>= 1; left = DIVISOR; }
            if (--left == 0) sending--;
        }

        board->clk = 0;
        board->eval();
        board->clk = 1;
        board->eval();
        now++;

        if (receiving) {
            if (--sample == 0) {
                receiving--;
                sample = DIVISOR;
                if (receiving) byte = byte >> 1 | (board->tx ? 0x80 : 0);
                else if (write(terminal.master, &byte, 1) != 1) { /* nobody reads and the terminal is full: lost, as on a wire */ }
            }
        } else if (!board->tx) {
            receiving = BITS - 1;
            sample = DIVISOR + DIVISOR / 2;
        }
        if (sending || receiving || board->running || !board->ready || !to_board.empty()) last = now;
    }
    board->final();
    fprintf(stderr, "%llu cycles\n", (unsigned long long)now);
    return 0;
}
