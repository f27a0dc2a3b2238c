// One rank of DRAM behind a channel's command pins: keeps blocks, and ends the simulation with an error at a command that makes no sense.
// Distances between commands are not checked here.
//
// A command is on the pins in cycle t; write beats are taken in t + CWL .. , read beats driven in t + CL .. . Kinds as in
// rtl.memory.interfaces.Command. `memory` holds the first BLOCKS blocks in the order {row, bank, column}; reads of others give a fixed
// pattern, writes there pulse `outside`.

module dram_array #(
    parameter BEAT_BYTES = 16,
    parameter BEATS = 4,
    parameter BANK_BITS = 4,
    parameter ROW_BITS = 16,
    parameter COLUMN_BITS = 7,
    parameter BLOCKS = 1 << 18,
    parameter CL = 16, CWL = 12
) (
    input clk,
    input rst,                      // with the controller's: closes all banks, as setting up the part again would
    input [2:0] kind,
    input [BANK_BITS-1:0] bank,
    input [ROW_BITS-1:0] row,
    input [COLUMN_BITS-1:0] column,
    input [8*BEAT_BYTES-1:0] write_data,
    input [BEAT_BYTES-1:0] write_mask,
    output reg [8*BEAT_BYTES-1:0] read_data,
    input [31:0] limit,             // blocks that may be written
    output reg outside = 0,
    output reg [31:0] outside_block = 0
);
    localparam INDEX_BITS = $clog2(BLOCKS);
    localparam LOCATION_BITS = ROW_BITS + BANK_BITS + COLUMN_BITS;
    localparam [2:0] ACT = 1, PRE = 2, PREA = 3, RD = 4, WR = 5, REF = 6;

    reg [8*BEAT_BYTES*BEATS-1:0] memory [0:BLOCKS-1];

    longint now = 0;
    reg [(1<<BANK_BITS)-1:0] open = 0;
    reg [ROW_BITS-1:0] rows [0:(1<<BANK_BITS)-1];
    reg [LOCATION_BITS+4:0] reads [0:63];       // by cycle: {used, beat, block}
    reg [LOCATION_BITS+4:0] writes [0:63];
    reg [LOCATION_BITS+4:0] slot;
    reg [LOCATION_BITS-1:0] block;

    initial for (int i = 0; i < 64; i++) begin
        reads[i] = 0; writes[i] = 0;
    end

    task automatic check(input bit good, input string rule);
        if (!good) $fatal(1, "dram_array: cycle %0d: %s", now, rule);
    endtask

    always @(posedge clk) begin
        outside <= 0;
        if (rst) open = 0;
        else case (kind)
        ACT: begin
            check(!open[bank], "ACT of an open bank");
            open[bank] = 1;
            rows[bank] = row;
        end
        PRE: open[bank] = 0;
        PREA: open = 0;
        REF: check(open == 0, "REF with an open bank");
        RD, WR: begin
            check(open[bank], "RD or WR of a closed bank");
            block = {rows[bank], bank, column};
            for (int i = 0; i < BEATS; i++)
                if (kind == RD) reads[(now + longint'(CL + i)) & 63] = {1'b1, i[3:0], block};
                else writes[(now + longint'(CWL + i)) & 63] = {1'b1, i[3:0], block};
        end
        default: ;
        endcase

        slot = writes[now & 63];
        writes[now & 63] = 0;
        block = slot[LOCATION_BITS-1:0];
        if (slot[LOCATION_BITS+4]) begin
            if (32'(block) < limit) begin
                for (int i = 0; i < BEAT_BYTES; i++)
                    if (write_mask[i])
                        memory[block[INDEX_BITS-1:0]][8*(BEAT_BYTES*32'(slot[LOCATION_BITS +: 4]) + i) +: 8] = write_data[8*i +: 8];
            end else if (write_mask != 0) begin
                outside <= 1;
                outside_block <= 32'(block);
            end
        end

        now = now + 1;
        slot = reads[now & 63];
        reads[now & 63] = 0;
        block = slot[LOCATION_BITS-1:0];
        if (slot[LOCATION_BITS+4] && 32'(block) < limit)
            read_data <= memory[block[INDEX_BITS-1:0]][8*BEAT_BYTES*32'(slot[LOCATION_BITS +: 4]) +: 8*BEAT_BYTES];
        else read_data <= {BEAT_BYTES{8'ha5}};
    end
endmodule
