// A board without a board: the FPGA's content, and the SDR chip on its wires where it has one (SDR is defined).
//
// board_bench.cpp drives clk, rst and rx, and looks at tx.

module board #(
    parameter BUS_BYTES = 2,
    parameter BURST = 8,
    parameter ADDRESS_BITS = 13,
    parameter ROW_BITS = 13,
    parameter BANK_BITS = 2,
    parameter COLUMN_BITS = 6,
    parameter BLOCKS = 1 << 20,
    parameter INIT = 32, CL = 3, CWL = 0, RCD = 3, RP = 3, RAS = 6, RC = 9, RFC = 9, RRD = 2, WR = 2, MRD = 2, REFI = 1116
) (
    input clk, rst, rx,
    output tx, running, ready
);
`ifdef SDR
    wire cke, cs, ras, cas, we, dq_oe;
    wire [BANK_BITS-1:0] ba;
    wire [ADDRESS_BITS-1:0] a;
    wire [BUS_BYTES-1:0] dqm;
    wire [8*BUS_BYTES-1:0] dq_o, dq_i;

    flexwave fpga (
        .clk(clk), .rst(rst), .rx(rx), .tx(tx), .running(running), .ready(ready),
        .chip__cke(cke), .chip__cs(cs), .chip__ras(ras), .chip__cas(cas), .chip__we(we), .chip__ba(ba), .chip__a(a), .chip__dqm(dqm),
        .chip__dq_o(dq_o), .chip__dq_oe(dq_oe), .chip__dq_i(dq_i)
    );
    sdr_chip #(
        .BYTES(BUS_BYTES), .ADDRESS_BITS(ADDRESS_BITS), .ROW_BITS(ROW_BITS), .COLUMN_BITS(COLUMN_BITS), .BLOCKS(BLOCKS), .INIT(INIT),
        .RCD(RCD), .RP(RP), .RAS(RAS), .RC(RC), .RFC(RFC), .RRD(RRD), .WR(WR), .MRD(MRD), .REFI(REFI)
    ) dram (
        .clk(clk), .cke(cke), .cs(cs), .ras(ras), .cas(cas), .we(we), .ba(ba), .a(a), .dqm(dqm),
        .dq_o(dq_o), .dq_oe(dq_oe), .dq_i(dq_i), .limit(BLOCKS), .outside(), .outside_block()
    );
`else
    flexwave fpga (.clk(clk), .rst(rst), .rx(rx), .tx(tx), .running(running), .ready(ready));
`endif
endmodule
