// Behaviour of the ECP5 blocks that Yosys's cell library leaves black, written from what is generally known of them (not checked line
// by line against Lattice's guides), as far as the generated machines use them; anything else stops the simulation.

// 2048 words of nine bits, read and written by port A's and port B's width: 36, 18 (ADA's lowest bits enable bytes of nine bits) or 9. Port A
// writes, port B reads, both on one clock. The read data is that of the last cycle in which CEB was high, with OUTREG through one more
// register that OCEB enables. A word that is read in the cycle in which it is written is undefined: it reads as its inverse here.
module DP16KD #(
    parameter DATA_WIDTH_A = 18, parameter DATA_WIDTH_B = 18, parameter REGMODE_A = "NOREG", parameter REGMODE_B = "NOREG",
    parameter RESETMODE = "SYNC", parameter ASYNC_RESET_RELEASE = "SYNC", parameter GSR = "ENABLED",
    parameter CLKAMUX = "CLKA", parameter CLKBMUX = "CLKB", parameter CSDECODE_A = "0b000", parameter CSDECODE_B = "0b000",
    parameter WRITEMODE_A = "NORMAL", parameter WRITEMODE_B = "NORMAL"
) (
    input DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0,
    input DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0,
    input ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0,
    input ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0,
    input CEA, OCEA, CLKA, WEA, RSTA, CSA2, CSA1, CSA0, CEB, OCEB, CLKB, WEB, RSTB, CSB2, CSB1, CSB0,
    output DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1, DOA0,
    output DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1, DOB0
);
    localparam BYTES = DATA_WIDTH_A / 9;
    wire [10:0] write_word = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3} & ~(11'd0 + BYTES - 1);
    wire [10:0] read_word = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3} & ~(11'd0 + BYTES - 1);
    wire [3:0] bytes = BYTES == 1 ? 4'b1 : {ADA3, ADA2, ADA1, ADA0};
    wire [35:0] data = {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0,
                        DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0};
    reg [8:0] words [0:2047];
    reg [35:0] fetched = 0, registered = 0;
    wire writes = CEA & WEA;

    integer i;
    initial begin
        for (i = 0; i < 2048; i = i + 1)
            words[i] = 0;
        if (DATA_WIDTH_A != DATA_WIDTH_B || DATA_WIDTH_A < 9 || CLKAMUX != "CLKA" || CLKBMUX != "CLKB")
            $fatal(1, "DP16KD: only words of 9, 18 or 36 bits, of the same width on both sides, have a model");
    end

    integer b;
    always @(posedge CLKA) begin
        for (b = 0; b < BYTES; b = b + 1) begin
            if (writes && bytes[b])
                words[write_word + b] <= data[9 * b +: 9];
            if (CEB)
                fetched[9 * b +: 9] <= words[read_word + b] ^ {9{writes && write_word == read_word}};
        end
        if (OCEB)
            registered <= fetched;
        if (RSTA | RSTB | WEB | CSA0 | CSA1 | CSA2 | CSB0 | CSB1 | CSB2)
            $fatal(1, "DP16KD: resets, chip selects and writes through port B have no model");
    end

    // Narrow words leave through port B, words of 36 bits through both.
    wire [35:0] read = REGMODE_B == "OUTREG" ? registered : fetched;
    assign {DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1, DOA0} = read[17:0];
    assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1, DOB0}
        = BYTES == 4 ? read[35:18] : read[17:0];
endmodule

// A clock buffer, here on a signal with many listeners.
module DCCA (input CLKI, CE, output CLKO);
    assign CLKO = CLKI & CE;
endmodule

// 18 x 18 to 36 bits, each operand signed or not, with optional registers at the operands and the product, on CLK0 with enable CE0.
module MULT18X18D #(
    parameter REG_INPUTA_CLK = "NONE", parameter REG_INPUTB_CLK = "NONE", parameter REG_OUTPUT_CLK = "NONE",
    parameter REG_PIPELINE_CLK = "NONE"
) (
    input A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0,
    input B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0,
    input C17, C16, C15, C14, C13, C12, C11, C10, C9, C8, C7, C6, C5, C4, C3, C2, C1, C0,
    input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB, CLK0, CLK1, CLK2, CLK3, CE0, CE1, CE2, CE3, RST0, RST1, RST2, RST3,
    output P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16, P15, P14, P13, P12, P11,
    output P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0
);
    wire signed [18:0] a = {SIGNEDA & A17, A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0};
    wire signed [18:0] b = {SIGNEDB & B17, B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0};
    reg signed [18:0] a_register = 0, b_register = 0;
    reg signed [37:0] product_register = 0;
    wire signed [18:0] a_used = REG_INPUTA_CLK == "CLK0" ? a_register : a;
    wire signed [18:0] b_used = REG_INPUTB_CLK == "CLK0" ? b_register : b;
    wire signed [37:0] product = a_used * b_used;

    initial
        if (REG_PIPELINE_CLK != "NONE")
            $fatal(1, "MULT18X18D: the pipeline register has no model");

    always @(posedge CLK0) begin
        if (CE0) begin
            a_register <= a;
            b_register <= b;
            product_register <= product;
        end
        if (RST0 | SOURCEA | SOURCEB)
            $fatal(1, "MULT18X18D: resets and cascaded operands have no model");
    end

    wire [37:0] result = REG_OUTPUT_CLK == "CLK0" ? product_register : product;
    assign {P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16, P15, P14, P13, P12, P11,
            P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0} = result[35:0];
endmodule
