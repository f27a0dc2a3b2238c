// The accelerator on its own DRAM. cocotb drives it by the same names as bench.sv; SDR is defined where the DRAM is an SDR chip.
//
// The image and the result are blocks in the DRAM's order {row, bank, column}. A start is held back until the DRAM is ready.
// Writing behind the image is a fault that stops the job.

module bench #(
    parameter BUS_BYTES = 2,
    parameter BURST = 8,            // words of a block, or beats where a beat is more than a word
    parameter ADDRESS_BITS = 13,
    parameter ROW_BITS = 13,
    parameter BANK_BITS = 2,
    parameter COLUMN_BITS = 6,
    parameter BLOCKS = 1 << 20,
    parameter INIT = 32, CL = 3, CWL = 0, RCD = 3, RP = 3, RAS = 6, RC = 9, RFC = 9, RRD = 2, WR = 2, MRD = 2, REFI = 1116,
    parameter CONTROL = 0,          // address of the register that starts
    parameter REGISTER_ADDRESS_BITS = 12
) (
    input clk
);
    // The conductor's side, written and read by cocotb
    reg rst = 1;
    reg [REGISTER_ADDRESS_BITS-1:0] address = 0;
    reg write_enable = 0;
    reg [31:0] write_data = 0;
    wire [31:0] read_data;
    reg [31:0] job = 0;            // number of the job: names its files
    reg load = 0;                  // a rising edge reads the image
    reg store = 0;                 // a rising edge writes the result
    reg [31:0] image_beats = 0;    // blocks of the image
    reg [31:0] result_first = 0;   // first and last block of the result
    reg [31:0] result_last = 0;
    reg [31:0] stalls = 0;         // not used
    reg [31:0] seed = 1;           // not used
    reg [31:0] pace_beats = 1;     // not used
    reg [31:0] pace_cycles = 1;    // not used
    reg running = 0;               // watch for the end of a job
    reg [31:0] limit = 0;          // cycles after which a job is given up; 0: never
    reg finished = 0;
    reg expired = 0;
    reg fault = 0;
    reg [31:0] fault_address = 0;
    reg [31:0] watched = 0;

    wire done;
    wire ready, outside;
    wire [31:0] outside_block;
    reg starting = 0;              // a start that waits for the DRAM
    wire start = write_enable && address == CONTROL;
    wire go = (starting || start) && ready;
    wire bus_write = start ? ready : write_enable || (starting && ready);
    wire [REGISTER_ADDRESS_BITS-1:0] bus_address = starting && ready ? CONTROL : address;
    wire [31:0] bus_data = starting && ready ? 32'd1 : write_data;

`ifdef SDR
    wire cke, cs, ras, cas, we, dq_oe;
    wire [BANK_BITS-1:0] ba;
    wire [ADDRESS_BITS-1:0] a;
    wire [BUS_BYTES-1:0] dqm;
    wire [8*BUS_BYTES-1:0] dq_o, dq_i;

    flexwave machine (
        .clk(clk), .rst(rst),
        .registers__address(bus_address), .registers__write_enable(bus_write),
        .registers__write_data(bus_data), .registers__read_data(read_data),
        .chips__0__cke(cke), .chips__0__cs(cs), .chips__0__ras(ras), .chips__0__cas(cas), .chips__0__we(we), .chips__0__ba(ba),
        .chips__0__a(a), .chips__0__dqm(dqm), .chips__0__dq_o(dq_o), .chips__0__dq_oe(dq_oe), .chips__0__dq_i(dq_i),
        .ready(ready), .done(done)
    );
    sdr_chip #(
        .BYTES(BUS_BYTES), .ADDRESS_BITS(ADDRESS_BITS), .ROW_BITS(ROW_BITS), .COLUMN_BITS(COLUMN_BITS), .BLOCKS(BLOCKS), .INIT(INIT),
        .RCD(RCD), .RP(RP), .RAS(RAS), .RC(RC), .RFC(RFC), .RRD(RRD), .WR(WR), .MRD(MRD), .REFI(REFI)
    ) dram (
        .clk(clk), .cke(cke), .cs(cs), .ras(ras), .cas(cas), .we(we), .ba(ba), .a(a), .dqm(dqm), .dq_o(dq_o), .dq_oe(dq_oe),
        .dq_i(dq_i), .limit(image_beats), .outside(outside), .outside_block(outside_block)
    );
`else
    wire [2:0] kind;
    wire [BANK_BITS-1:0] bank;
    wire [ROW_BITS-1:0] row;
    wire [COLUMN_BITS-1:0] column;
    wire [8*BUS_BYTES-1:0] to_dram, from_dram;
    wire [BUS_BYTES-1:0] mask;

    flexwave machine (
        .clk(clk), .rst(rst),
        .registers__address(bus_address), .registers__write_enable(bus_write),
        .registers__write_data(bus_data), .registers__read_data(read_data),
        .channels__0__kind(kind), .channels__0__bank(bank), .channels__0__row(row), .channels__0__column(column),
        .channels__0__write_data(to_dram), .channels__0__write_mask(mask), .channels__0__read_data(from_dram),
        .ready(ready), .done(done)
    );
    dram_array #(
        .BEAT_BYTES(BUS_BYTES), .BEATS(BURST), .BANK_BITS(BANK_BITS), .ROW_BITS(ROW_BITS), .COLUMN_BITS(COLUMN_BITS), .BLOCKS(BLOCKS),
        .CL(CL), .CWL(CWL)
    ) dram (
        .clk(clk), .rst(rst), .kind(kind), .bank(bank), .row(row), .column(column), .write_data(to_dram), .write_mask(mask),
        .read_data(from_dram), .limit(image_beats), .outside(outside), .outside_block(outside_block)
    );
`endif

    always @(posedge clk) begin
        if (go) starting <= 0;
        else if (start) starting <= 1;
        if (running) begin
            watched <= watched + 1;
            if (outside && !fault) begin
                fault <= 1;
                fault_address <= outside_block * (BUS_BYTES * BURST);
            end
            if (done || fault || (limit != 0 && watched >= limit)) begin
                finished <= 1;
                expired <= !done && !fault;
            end
        end else begin
            watched <= 0;
            finished <= 0;
            expired <= 0;
            fault <= 0;
        end
    end

    string name;
    always @(posedge load) begin
        name = $sformatf("%0d.image", job);
        $readmemh(name, dram.memory, 0, image_beats - 1);
    end
    always @(posedge store) begin
        name = $sformatf("%0d.result", job);
        $writememh(name, dram.memory, result_first, result_last);
    end
endmodule
