// A single data rate SDRAM chip: keeps blocks of eight words and ends the simulation with an error when its datasheet is not kept.
//
// cs, ras, cas and we are 1 when asserted. Commands are sampled at the end of a cycle; word i of a read in cycle c is on dq_i in
// c + CL + i, with the CL of the mode register. Where no word is due the wires carry a fixed pattern. Distances are in cycles.
// `memory` holds the first BLOCKS blocks in the order {row, bank, column}; reads of others give the pattern, writes there pulse `outside`.

module sdr_chip #(
    parameter BYTES = 2,
    parameter ADDRESS_BITS = 13,
    parameter ROW_BITS = 13,
    parameter COLUMN_BITS = 6,      // of a block in a row
    parameter BLOCKS = 1 << 20,
    parameter INIT = 32, RCD = 3, RP = 3, RAS = 6, RC = 9, RFC = 9, RRD = 2, WR = 2, MRD = 2, REFI = 1116
) (
    input clk, cke, cs, ras, cas, we,
    input [1:0] ba,
    input [ADDRESS_BITS-1:0] a,
    input [BYTES-1:0] dqm,
    input [8*BYTES-1:0] dq_o,
    input dq_oe,
    output reg [8*BYTES-1:0] dq_i,
    input [31:0] limit,             // blocks that may be written
    output reg outside = 0,
    output reg [31:0] outside_block = 0
);
    localparam BURST = 8;
    localparam INDEX_BITS = $clog2(BLOCKS);
    localparam LOCATION_BITS = ROW_BITS + 2 + COLUMN_BITS;
    localparam [2:0] ACT = 3'b100, RD = 3'b010, WRITE = 3'b011, PRE = 3'b101, REF = 3'b110, MODE = 3'b111;

    reg [8*BYTES*BURST-1:0] memory [0:BLOCKS-1];

    longint now = 0;
    longint act [0:3], pre [0:3], wrote [0:3], red [0:3];
    longint last_act = -100000, last_ref = -100000, last_mode = -100000, last_column = -100000, started = 0, refreshes = 0;
    reg [3:0] open = 0;
    reg [ROW_BITS-1:0] row [0:3];
    reg set_up = 0;
    integer latency = 3, initial_refreshes = 0;

    // What is on the wires in a cycle: a wheel of cycles. {used, word, block}
    reg [LOCATION_BITS+3:0] reads [0:31];
    reg [LOCATION_BITS+3:0] writes [0:31];
    reg [LOCATION_BITS+3:0] slot;
    reg [LOCATION_BITS-1:0] block;
    reg driving = 0;

    initial for (int i = 0; i < 4; i++) begin
        act[i] = -100000; pre[i] = -100000; wrote[i] = -100000; red[i] = -100000;
    end
    initial for (int i = 0; i < 32; i++) begin
        reads[i] = 0; writes[i] = 0;
    end

    task automatic check(input bit good, input string rule);
        if (!good) $fatal(1, "sdr_chip: cycle %0d: %s", now, rule);
    endtask

    wire [2:0] command = {ras, cas, we};

    always @(posedge clk) begin
        outside <= 0;
        if (cke && cs && command != 0) begin
            check(now - last_ref >= RFC, "tRFC");
            check(now - last_mode >= MRD, "tMRD");
            check(now >= INIT, "a command within the power-up wait");
            case (command)
            ACT: begin
                check(set_up, "ACT before the mode register");
                check(!open[ba], "ACT of an open bank");
                check(now - pre[ba] >= RP, "tRP");
                check(now - act[ba] >= RC, "tRC");
                check(now - last_act >= RRD, "tRRD");
                open[ba] = 1;
                row[ba] = a[ROW_BITS-1:0];
                act[ba] = now;
                last_act = now;
            end
            RD, WRITE: begin
                check(open[ba], "RD or WR of a closed bank");
                check(now - act[ba] >= RCD, "tRCD");
                check(now - last_column >= BURST, "a burst is cut");
                check(!a[10] && a[2:0] == 0, "column");
                last_column = now;
                block = {row[ba], ba, a[3 +: COLUMN_BITS]};
                for (int i = 0; i < BURST; i++)
                    if (command == RD) reads[(now + longint'(latency + i)) & 31] = {1'b1, i[2:0], block};
                    else writes[(now + longint'(i)) & 31] = {1'b1, i[2:0], block};
                if (command == RD) red[ba] = now;
                else wrote[ba] = now;
            end
            PRE: for (int bank = 0; bank < 4; bank++) if (a[10] || bank == ba) begin
                if (open[bank]) begin
                    check(now - act[bank] >= RAS, "tRAS");
                    check(now - wrote[bank] >= BURST - 1 + WR, "tWR");
                    check(now - red[bank] >= BURST, "PRE cuts a read burst");
                end
                open[bank] = 0;
                pre[bank] = now;
            end
            REF: begin
                check(open == 0, "REF with an open bank");
                for (int bank = 0; bank < 4; bank++) check(now - pre[bank] >= RP, "tRP");
                last_ref = now;
                refreshes = refreshes + 1;
                initial_refreshes = initial_refreshes + 1;
            end
            MODE: begin     // again after a reset of the controller
                check(open == 0 && initial_refreshes >= 2, "mode register before precharge and two refreshes");
                check(a[3:0] == 4'b0011 && (a[6:4] == 2 || a[6:4] == 3) && a[9] == 0, "mode register");
                latency = 32'(a[6:4]);
                set_up = 1;
                last_mode = now;
                started = now;
                refreshes = 0;
            end
            default: check(0, "a command that this controller does not have");
            endcase
        end

        slot = writes[now & 31];
        writes[now & 31] = 0;
        check(!(dq_oe && (driving || reads[(now + 1) & 31][LOCATION_BITS+3])), "both sides drive the data wires or turn without a gap");
        if (slot[LOCATION_BITS+3]) begin
            block = slot[LOCATION_BITS-1:0];
            check(dq_oe, "no write data");
            if (32'(block) < limit) begin
                for (int i = 0; i < BYTES; i++)
                    if (!dqm[i]) memory[block[INDEX_BITS-1:0]][8*(BYTES*32'(slot[LOCATION_BITS +: 3]) + i) +: 8] = dq_o[8*i +: 8];
            end else if (dqm != {BYTES{1'b1}}) begin
                outside <= 1;
                outside_block <= 32'(block);
            end
        end

        now = now + 1;
        slot = reads[now & 31];
        reads[now & 31] = 0;
        block = slot[LOCATION_BITS-1:0];
        driving = slot[LOCATION_BITS+3];
        if (driving && 32'(block) < limit)
            dq_i <= memory[block[INDEX_BITS-1:0]][8*BYTES*32'(slot[LOCATION_BITS +: 3]) +: 8*BYTES];
        else dq_i <= {BYTES{8'ha5}};
        check(!set_up || now - started < (refreshes + 9) * REFI, "more than eight refreshes owed");
    end
endmodule
