// The players of a run in simulation: the cores and the launcher that send requests; a scoreboard of what reads must return; the record.
// gen/simulate_dram.py builds it with the Verilated system and writes and reads its files; gen/traffic.py says what a run is.

#include <csignal>
#include <cstdlib>
#include <memory>
#include <sys/prctl.h>

#include "dram_device.h"

constexpr uint64_t STUCK = 1 << 20;    // cycles with work to do and no request, answer or column command
constexpr int TAGS = 1024;             // reads that may be outstanding

[[noreturn]] void give_up(const std::string& text) {
    fprintf(stderr, "%s\n", text.c_str());
    exit(2);
}

// A job: numbers of 64 bits and arrays.
struct JobFile {
    std::string text;
    size_t at = 0;

    explicit JobFile(const std::string& name) {
        FILE* file = fopen(name.c_str(), "rb");
        if (!file) give_up("cannot read " + name);
        fseek(file, 0, SEEK_END);
        text.resize(ftell(file));
        rewind(file);
        if (fread(text.data(), 1, text.size(), file) != text.size()) give_up("cannot read " + name);
        fclose(file);
    }
    void take(void* to, size_t size) {
        if (at + size > text.size()) give_up("a job file ends too early");
        memcpy(to, text.data() + at, size);
        at += size;
    }
    uint64_t number() { uint64_t value; take(&value, 8); return value; }
    template <class T> std::vector<T> numbers(size_t count) {
        std::vector<T> values(count);
        take(values.data(), count * sizeof(T));
        return values;
    }
};

struct CommandRecord { uint64_t cycle; uint8_t channel, rank, bank, kind, source, unused; uint16_t column; uint32_t row, spare; };
struct ReadRecord { uint64_t offered, answered; uint32_t core, index; };
static_assert(sizeof(CommandRecord) == 24 && sizeof(ReadRecord) == 24, "as in gen/traffic.py");

// Appends records to a file.
template <class T> struct Recorder {
    FILE* file;
    explicit Recorder(const std::string& name) : file(fopen(name.c_str(), "wb")) { if (!file) give_up("cannot write " + name); }
    void add(const T& record) { if (fwrite(&record, sizeof(T), 1, file) != 1) give_up("cannot write the record"); }
    void close() { if (fclose(file)) give_up("cannot write the record"); }
};

struct Core {
    uint32_t window;
    std::vector<uint32_t> gaps;
    std::vector<uint64_t> blocks;
    std::vector<uint8_t> writes;
    uint64_t next = 0, last = 0, done = 0, offered = 0;    // next request; cycles of the last accepted, of the last end, of the offer
    uint32_t outstanding = 0;
    bool offering = false;
};
struct Launch { uint64_t block, wait; Block data; };
struct Written { Block data{}; uint64_t count = 0; };    // what a block must hold, and how often it was written
struct Pending { uint32_t core, index; uint64_t block, offered; Block expected; bool valid = false; };

struct Run {
    Vdram& top;
    Errors errors;
    Device device{top, errors};
    std::vector<Core> cores;
    std::vector<Launch> launches;
    std::vector<uint64_t> stores;
    uint64_t repeat, limit, recording;
    uint64_t round = 0, entry = 0;                           // of the launcher
    uint64_t now = 0, moved = 0, total = 0, accepted = 0, outstanding = 0, mismatches = 0, overruns = 0;
    size_t last;                                             // the player accepted last
    std::array<Pending, TAGS> pending;
    std::deque<uint16_t> tags;                               // free ones: the one free for longest is used first
    std::unordered_map<uint64_t, Written> written;           // block -> what was written to it, as accepted
    std::unordered_map<uint64_t, Block> loaded;              // location -> what the job put there
    const char* stopped = "";

    Run(Vdram& top, JobFile file) : top(top) {
        cores.resize(file.number());
        launches.resize(file.number());
        uint64_t loads = file.number(), wanted = file.number();
        repeat = file.number();
        limit = file.number();
        recording = file.number();
        for (Core& core : cores) {
            uint64_t count = file.number();
            core.window = file.number();
            core.gaps = file.numbers<uint32_t>(count);
            core.blocks = file.numbers<uint64_t>(count);
            core.writes = file.numbers<uint8_t>(count);
            total += count;
        }
        for (Launch& launch : launches) {
            launch.block = file.number();
            launch.wait = file.number();
            file.take(launch.data.data(), sizeof(Block));
        }
        for (uint64_t i = 0; i < loads; i++) {
            uint64_t location = file.number();
            file.take(device.stored[location].data.data(), sizeof(Block));
            loaded[location] = device.stored[location].data;
        }
        stores = file.numbers<uint64_t>(wanted);
        last = cores.size();
        for (int tag = 0; tag < TAGS; tag++) tags.push_back(tag);
    }

    bool cores_done() const { return accepted == total; }

    bool launcher_done() const {
        if (launches.empty()) return true;
        return repeat ? round == repeat : cores_done() && launches[entry].wait;
    }

    // What the next write of a core to a block carries: one in eight writes only some bytes.
    Block fresh(uint64_t block, uint64_t& mask) const {
        auto found = written.find(block);
        uint64_t seed = mix(block + 1) + (found == written.end() ? 0 : found->second.count);
        mask = mix(seed) & 7 ? ALL : mix(~seed) & ALL;
        return pattern(seed);
    }

    // Before the cycle: which player owns the port (cores.size() is the launcher, one more is none), and what it offers.
    size_t offer() {
        for (Core& core : cores) {
            bool offers = core.next < core.gaps.size() && now >= core.last + core.gaps[core.next] &&
                          (core.writes[core.next] || core.outstanding < core.window);
            if (offers && !core.offering) core.offered = now;
            core.offering = offers;
        }
        bool launching = !launcher_done() && !(top.active & launches[entry].wait);
        size_t players = cores.size() + 1, chosen = players;
        for (size_t step = 1; step <= players && chosen == players; step++) {
            size_t player = (last + step) % players;
            if (player < cores.size() ? cores[player].offering : launching) chosen = player;
        }
        top.request_valid = chosen < players;
        if (chosen == cores.size()) {
            send(true, launches[entry].block, 0, launches[entry].data, ALL);
        } else if (chosen < cores.size()) {
            const Core& core = cores[chosen];
            uint64_t block = core.blocks[core.next], mask;
            if (core.writes[core.next]) {
                Block data = fresh(block, mask);
                send(true, block, 0, data, mask);
            } else {
                send(false, block, tags.front(), {}, 0);
            }
        }
        return chosen;
    }

    void send(bool write, uint64_t block, uint16_t tag, const Block& data, uint64_t mask) {
        top.request_write = write;
        top.request_tag = tag;
        top.request_block = block;
        memcpy(bytes(top.request_data), data.data(), BLOCK_BYTES);
        top.request_mask = mask;
    }

    // In the cycle: the port's request was accepted.
    void accept(size_t chosen) {
        last = chosen;
        moved = now;
        if (chosen == cores.size()) {
            note(launches[entry].block, launches[entry].data, ALL);
            if (++entry == launches.size()) { entry = 0; round++; }
            return;
        }
        Core& core = cores[chosen];
        uint64_t block = core.blocks[core.next], mask;
        if (core.writes[core.next]) {
            Block data = fresh(block, mask);
            note(block, data, mask);
            core.done = now;
        } else {
            auto found = written.find(block);
            Block expected = found == written.end() ? initial(block) : found->second.data;
            pending[tags.front()] = {uint32_t(chosen), uint32_t(core.next), block, core.offered, expected, true};
            tags.pop_front();
            core.outstanding++;
            outstanding++;
        }
        core.last = now;
        core.offering = false;
        core.next++;
        accepted++;
    }

    // What a block holds before anything is written to it.
    Block initial(uint64_t block) const {
        auto found = loaded.find(locate(block));
        return found == loaded.end() ? pattern(locate(block)) : found->second;
    }

    void note(uint64_t block, const Block& data, uint64_t mask) {
        auto [entry, fresh] = written.try_emplace(block);
        if (fresh) entry->second.data = initial(block);
        merge(entry->second.data, data, mask);
        entry->second.count++;
    }

    void answer(int channel, Recorder<ReadRecord>& reads) {
        uint16_t tag = word<uint16_t>(top.response_tag, channel);
        if (tag >= TAGS || !pending[tag].valid) { errors.add("an answer with tag %d, which is not outstanding", tag); return; }
        Pending& read = pending[tag];
        Block data{};
        memcpy(data.data(), bytes(top.response_data) + channel * BLOCK_BYTES, BLOCK_BYTES);
        if (device.answers[channel].empty()) {
            errors.add("an answer for block %llu, but the DRAM was not read", (unsigned long long)read.block);
        } else {
            check(read, data, device.answers[channel].front());
            device.answers[channel].pop_front();
        }
        read.valid = false;
        tags.push_back(tag);
        Core& core = cores[read.core];
        core.outstanding--;
        outstanding--;
        core.done = moved = now;
        reads.add({read.offered, now, read.core, read.index});
    }

    // An answer against the DRAM's beats, the block's location, and what was written last (or was there from the start).
    void check(const Pending& read, const Block& data, const Device::Burst& burst) {
        unsigned long long block = read.block, location = burst.location;
        if (differ(data, burst.data, ALL))
            errors.add("the answer for block %llu is not what the DRAM drove", block);
        else if (location != locate(block))
            errors.add("block %llu was read at location %016llx, it lies at %016llx", block, location, (unsigned long long)locate(block));
        else if (!by_unit(location) && differ(data, read.expected, ALL))
            errors.add("block %llu did not return what was written last", block);
    }

    // What near-data units write is not checked here: the host's requests do not say when, nor what.
    bool by_unit(uint64_t location) const {
        auto stored = device.stored.find(location);
        return stored != device.stored.end() && stored->second.near;
    }

    void commands(Recorder<CommandRecord>& record) {
        for (int channel = 0; channel < CHANNELS; channel++) {
            uint64_t host = word<uint64_t>(top.commands, channel);
            int rank = host >> 8 & 255;
            if (host & 7) command(record, host, channel * RANKS + rank, false);
            for (int r = 0; r < RANKS; r++) {
                uint64_t near = word<uint64_t>(top.near_commands, channel * RANKS + r);
                if ((near & 7) && (host & 7) && rank == r) errors.add("host and near-data unit command rank %d of channel %d", r, channel);
                if (near & 7) command(record, near, channel * RANKS + r, true);
            }
        }
    }

    void command(Recorder<CommandRecord>& record, uint64_t pins, int unit, bool near) {
        Kind kind = Kind(pins & 7);
        int bank = pins >> 16 & 255, column = pins >> 24 & 65535, row = pins >> 40;
        device.command(unit, kind, bank, row, column, near, now);
        if (kind == RD || kind == WR) moved = now;
        if (!recording) return;
        CommandRecord entry{now, uint8_t(unit / RANKS), uint8_t(unit % RANKS), 0, kind, near, 0, 0, 0, 0};
        if (kind != PREA && kind != REF) entry.bank = bank;
        if (kind == RD || kind == WR) entry.column = column;
        if (kind == ACT) entry.row = row;
        record.add(entry);
    }

    // Settles cycle `now`; returns who owns the port.
    size_t settle() {
        errors.now = now;
        size_t chosen = offer();
        device.drive(now);
        top.eval();
        return chosen;
    }

    void edge() {
        top.clk = 1;
        top.eval();
        top.clk = 0;    // the next cycle's eval sees the falling edge: nothing happens there
    }

    bool idle() const {    // nothing moves because a core lets cycles pass
        return !outstanding && !top.active && !cores_done() &&
               std::none_of(cores.begin(), cores.end(), [](const Core& core) { return core.offering; });
    }

    void run(int job) {
        const std::string name = std::to_string(job);
        Recorder<CommandRecord> record(name + ".commands");
        Recorder<ReadRecord> reads(name + ".reads");
        memset(bytes(top.read_data), 0, sizeof top.read_data);
        memset(bytes(top.near_read_data), 0, sizeof top.near_read_data);
        top.request_valid = 0;
        top.rst = 1;
        for (int cycle = 0; cycle < 2; cycle++) {
            top.eval();
            edge();
        }
        top.rst = 0;
        for (bool ended = false; !ended; now++) {
            size_t chosen = settle();
            ended = cores_done() && launcher_done() && !outstanding && top.quiet;
            commands(record);
            device.take(now);
            if (top.request_valid && top.request_ready) accept(chosen);
            for (int channel = 0; channel < CHANNELS; channel++)
                if (top.response_valid >> channel & 1) answer(channel, reads);
            mismatches += top.mismatch != 0;
            overruns += top.overrun != 0;
            if (idle()) moved = now;
            if (!ended && limit && now >= limit) stopped = "limit";
            if (!ended && now - moved > STUCK) stopped = "stuck";
            if (ended || *stopped) break;
            if (now % 65536 == 65535 && accepted) tell(job, accepted);
            edge();
        }
        record.close();
        reads.close();
        uint64_t cycles = now;
        while (device.writing() && !*stopped) {    // a write may still be on its way to the DRAM
            edge();
            now++;
            settle();
            device.take(now);
        }
        for (auto& left : device.answers)
            if (!*stopped && !left.empty()) errors.add("%zu reads of the DRAM were never answered", left.size());
        if (!*stopped)    // every block that was written, whether it was read again or not
            for (const auto& [block, entry] : written)
                if (!by_unit(locate(block)) && differ(device.read(locate(block)), entry.data, ALL))
                    errors.add("block %llu does not hold what was written last", (unsigned long long)block);
        save(name, cycles);
        tell(job + 1, 0);
    }

    static void tell(int jobs, uint64_t requests) {
        printf("%d %llu\n", jobs, (unsigned long long)requests);
        fflush(stdout);
    }

    void save(const std::string& name, uint64_t cycles) {
        Recorder<Block> blocks(name + ".blocks");
        for (uint64_t location : stores) blocks.add(device.read(location));
        blocks.close();
        FILE* file = fopen((name + ".part").c_str(), "w");
        if (!file) give_up("cannot write " + name + ".part");
        fprintf(file, "{\"stopped\": \"%s\"", stopped);
        for (auto [key, value] : {std::pair{"cycles", cycles}, {"accepted", accepted}, {"total", total}, {"outstanding", outstanding},
                                  {"data_errors", errors.count}, {"mismatches", mismatches}, {"overruns", overruns}})
            fprintf(file, ", \"%s\": %llu", key, (unsigned long long)value);
        fprintf(file, ", \"core_done\": [");
        for (size_t i = 0; i < cores.size(); i++) fprintf(file, "%s%llu", i ? ", " : "", (unsigned long long)cores[i].done);
        fprintf(file, "], \"errors\": [");
        for (size_t i = 0; i < errors.texts.size(); i++) fprintf(file, "%s\"%s\"", i ? ", " : "", errors.texts[i].c_str());
        fprintf(file, "]}\n");
        if (fclose(file) || rename((name + ".part").c_str(), (name + ".json").c_str())) give_up("cannot write " + name + ".json");
    }
};

// bench COUNT: runs the jobs 0.job, 1.job, ... of the current folder, each from a reset and with a fresh DRAM.
int main(int count, char** arguments) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);    // not to run on when the caller was killed
    auto context = std::make_unique<VerilatedContext>();
    auto top = std::make_unique<Vdram>(context.get());
    for (int job = 0; job < (count > 1 ? atoi(arguments[1]) : 0); job++)
        std::make_unique<Run>(*top, JobFile(std::to_string(job) + ".job"))->run(job);
    top->final();
}
