// The simulated DRAM behind the pins. It stores what is written and checks that commands make sense (not their distances: the record of a
// run is checked for them).
//
// A location is one number: column in bits 0..15, row 16..39, bank 40..47, rank 48..55, channel 56..63. A command on the system's ports is
// one too: kind in bits 0..2, rank 8..15, bank 16..23, column 24..39, row 40..63. Every port is bytes, the lowest first.

#pragma once

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <string>
#include <unordered_map>
#include <vector>

#include "Vdram.h"
#include "dram_config.h"    // CHANNELS RANKS BANKS CL CWL BURST BEAT_BYTES BLOCK_BYTES SWAPPED LAYOUT HASH

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "ports are read as bytes, the lowest first");
static_assert(CL + BURST <= 64 && CWL + BURST <= 64, "occupied and bus are too short for this part");
static_assert(BLOCK_BYTES <= 64 && BEAT_BYTES <= 16, "Block and LANE are too small for this part");

using std::uint8_t, std::uint16_t, std::uint32_t, std::uint64_t;
using Block = std::array<uint8_t, 64>;
enum Kind : uint8_t { NONE, ACT, PRE, PREA, RD, WR, REF };
constexpr int UNITS = CHANNELS * RANKS, LANE = 16;    // bytes of a data port for each channel or unit
constexpr uint64_t ALL = BLOCK_BYTES == 64 ? ~0ull : (1ull << BLOCK_BYTES) - 1;

template <class Port> uint8_t* bytes(Port& port) { return reinterpret_cast<uint8_t*>(&port); }
template <class Word, class Port> Word word(Port& port, int index) {
    Word value;
    memcpy(&value, bytes(port) + index * sizeof(Word), sizeof(Word));
    return value;
}

uint64_t mix(uint64_t x) {    // splitmix64's finaliser
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

// What a block holds that was never written, and what a core writes.
Block pattern(uint64_t seed) {
    Block block{};
    for (int i = 0; i < 8; i++) {
        uint64_t value = mix(seed * 8 + i);
        memcpy(&block[8 * i], &value, 8);
    }
    return block;
}

// Where a block lies: the bench's own reading of the address rules in rtl/memory/README.md.
uint64_t locate(uint64_t block) {
    enum Field { CHANNEL, RANK, BANK, ROW, COLUMN };
    uint64_t field[5] = {};
    int width[5] = {};
    for (auto [name, bits] : LAYOUT) {
        field[name] |= (block & ((1ull << bits) - 1)) << width[name];
        width[name] += bits;
        block >>= bits;
    }
    for (auto [name, bit, mask] : HASH) field[name] ^= uint64_t(__builtin_parityll(field[ROW] & mask)) << bit;
    if (SWAPPED) {
        const uint64_t ones = (1ull << SWAPPED) - 1;
        const int low = width[BANK] - SWAPPED, below = width[ROW] - SWAPPED;
        uint64_t high = field[BANK] >> low, top = field[ROW] >> below;
        if ((high == ones) != (top == ones)) {
            field[BANK] = (field[BANK] & ((1ull << low) - 1)) | top << low;
            field[ROW] = (field[ROW] & ((1ull << below) - 1)) | high << below;
        }
    }
    return field[CHANNEL] << 56 | field[RANK] << 48 | field[BANK] << 40 | field[ROW] << 16 | field[COLUMN];
}

void merge(Block& into, const Block& from, uint64_t mask) {
    for (int i = 0; i < BLOCK_BYTES; i++)
        if (mask >> i & 1) into[i] = from[i];
}

bool differ(const Block& a, const Block& b, uint64_t mask) {
    if (mask == ALL) return memcmp(a.data(), b.data(), BLOCK_BYTES) != 0;
    for (int i = 0; i < BLOCK_BYTES; i++)
        if ((mask >> i & 1) && a[i] != b[i]) return true;
    return false;
}

struct Errors {
    uint64_t count = 0, now = 0;
    std::vector<std::string> texts;
    __attribute__((format(printf, 2, 3))) void add(const char* format, ...) {
        if (count++ >= 20) return;
        char text[200];
        int used = snprintf(text, sizeof text, "cycle %llu: ", (unsigned long long)now);
        va_list rest;
        va_start(rest, format);
        vsnprintf(text + used, sizeof text - used, format, rest);
        va_end(rest);
        texts.push_back(text);
    }
};

// All ranks of all channels; a unit is a rank: channel * RANKS + rank.
struct Device {
    struct Stored { Block data; bool host = false, near = false; };
    struct Burst { uint64_t start, location; bool near; Block data; uint64_t mask; };
    struct Unit {
        std::array<int64_t, BANKS> row;       // open row, -1 none
        uint64_t occupied = 0;                // bit i: the rank's data path is taken i cycles from now
        std::deque<Burst> reads, writes;
    };
    Vdram& top;
    Errors& errors;
    std::unordered_map<uint64_t, Stored> stored;
    std::array<Unit, UNITS> units;
    std::array<uint64_t, CHANNELS> bus{};     // the same for the host's data bus
    std::array<std::deque<Burst>, CHANNELS> answers;    // what each host read brought, until the system answers it

    Device(Vdram& top, Errors& errors) : top(top), errors(errors) {
        for (Unit& unit : units) unit.row.fill(-1);
    }

    Block read(uint64_t location) const {
        auto found = stored.find(location);
        return found == stored.end() ? pattern(location) : found->second.data;
    }

    void write(const Burst& burst) {
        auto [entry, fresh] = stored.try_emplace(burst.location);
        if (fresh) entry->second.data = pattern(burst.location);
        merge(entry->second.data, burst.data, burst.mask);
        (burst.near ? entry->second.near : entry->second.host) = true;
    }

    bool writing() const { return std::any_of(units.begin(), units.end(), [](const Unit& unit) { return !unit.writes.empty(); }); }

    // Before the cycle: the read beats of this cycle. Where no beat is due the pins carry a fixed pattern.
    void drive(uint64_t now) {
        for (int u = 0; u < UNITS; u++) {
            auto& reads = units[u].reads;
            if (!reads.empty() && now == reads.front().start + BURST) {
                memset(lane(u, reads.front().near), 0xa5, BEAT_BYTES);
                if (!reads.front().near) answers[u / RANKS].push_back(reads.front());
                reads.pop_front();
            }
            if (reads.empty() || now < reads.front().start) continue;
            Burst& burst = reads.front();
            if (now == burst.start) burst.data = read(burst.location);
            memcpy(lane(u, burst.near), &burst.data[(now - burst.start) * BEAT_BYTES], BEAT_BYTES);
        }
    }

    uint8_t* lane(int u, bool near) { return near ? bytes(top.near_read_data) + u * LANE : bytes(top.read_data) + u / RANKS * LANE; }

    // In the cycle: a command on the pins or, `near`, from the unit.
    void command(int u, Kind kind, int bank, int row, int column, bool near, uint64_t now) {
        Unit& unit = units[u];
        const char* who = near ? "near-data" : "host";
        if (kind > REF || bank >= BANKS) { errors.add("%s command %d to bank %d of unit %d does not exist", who, kind, bank, u); return; }
        int64_t& open = unit.row[bank];
        switch (kind) {
        case ACT:
            if (open >= 0) errors.add("%s ACT of row %d to bank %d of unit %d, where row %d is open", who, row, bank, u, (int)open);
            open = row;
            break;
        case PRE:
            if (open < 0) errors.add("%s PRE to bank %d of unit %d, which is closed", who, bank, u);
            open = -1;
            break;
        case PREA:
            unit.row.fill(-1);
            break;
        case REF:
            if (std::any_of(unit.row.begin(), unit.row.end(), [](int64_t row) { return row >= 0; }))
                errors.add("%s REF of unit %d with an open bank", who, u);
            break;
        default: {
            if (open < 0) { errors.add("%s %s to bank %d of unit %d, which is closed", who, kind == RD ? "RD" : "WR", bank, u); open = 0; }
            int latency = kind == RD ? CL : CWL;
            uint64_t taken = ((1ull << BURST) - 1) << latency;
            if (unit.occupied & taken) { errors.add("%s column command to unit %d: its data path is taken", who, u); return; }
            unit.occupied |= taken;
            if (!near) {
                if (bus[u / RANKS] & taken) errors.add("column command to unit %d: the channel's data bus is taken", u);
                bus[u / RANKS] |= taken;
            }
            uint64_t location = uint64_t(u / RANKS) << 56 | uint64_t(u % RANKS) << 48 | uint64_t(bank) << 40;
            location |= uint64_t(open) << 16 | column;
            (kind == RD ? unit.reads : unit.writes).push_back({now + latency, location, near, {}, near ? ALL : 0});
        }
        }
    }

    // In the cycle, after its commands: the write beats of this cycle.
    void take(uint64_t now) {
        for (int u = 0; u < UNITS; u++) {
            Unit& unit = units[u];
            unit.occupied >>= 1;
            if (unit.writes.empty() || unit.writes.front().start > now) continue;
            Burst& burst = unit.writes.front();
            int beat = now - burst.start, at = beat * BEAT_BYTES;
            const uint8_t* lane = burst.near ? bytes(top.near_write_data) + u * LANE : bytes(top.write_data) + u / RANKS * LANE;
            memcpy(&burst.data[at], lane, BEAT_BYTES);
            if (!burst.near) burst.mask |= uint64_t(word<uint16_t>(top.write_mask, u / RANKS) & ((1u << BEAT_BYTES) - 1)) << at;
            if (beat == BURST - 1) {
                write(burst);
                unit.writes.pop_front();
            }
        }
        for (uint64_t& channel : bus) channel >>= 1;
    }
};

