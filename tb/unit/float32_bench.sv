// Streams pairs of fp32 numbers, one a cycle, through adders and multipliers of every latency and keeps the results of one latency.
//
// +operands=FILE: words of 64 bits for $readmemh, b above a. +results=FILE: product above sum, for $writememh; word n belongs to operands n
// and is taken exactly +latency=N cycles behind them. +count=N: pairs, at most PAIRS. The clock comes from outside.

module bench #(
    parameter PAIRS = 1
) (
    input clk
);
    reg [63:0] operands [0:PAIRS-1];
    reg [63:0] results [0:PAIRS-1];
    reg [31:0] a = 0, b = 0;
    wire [31:0] sum_1, sum_2, sum_3, sum_4, product_1, product_2, product_3, product_4;
    reg [63:0] result;
    integer count = 0, latency = 0, cycle = 0;
    string operands_file, results_file;

    flexwave units (
        .clk(clk), .rst(1'b0), .a(a), .b(b),
        .sum_1(sum_1), .sum_2(sum_2), .sum_3(sum_3), .sum_4(sum_4),
        .product_1(product_1), .product_2(product_2), .product_3(product_3), .product_4(product_4)
    );

    always @* case (latency)
        1: result = {product_1, sum_1};
        2: result = {product_2, sum_2};
        3: result = {product_3, sum_3};
        default: result = {product_4, sum_4};
    endcase

    initial begin
        if (!$value$plusargs("operands=%s", operands_file) || !$value$plusargs("results=%s", results_file)
            || !$value$plusargs("count=%d", count) || !$value$plusargs("latency=%d", latency)
            || count > PAIRS || latency < 1 || latency > 4) $fatal(1, "wrong arguments");
        $readmemh(operands_file, operands, 0, count - 1);
    end

    // Pair n is on the wires between edges n and n + 1, its result between edges n + latency and n + latency + 1.
    always @(posedge clk) begin
        cycle <= cycle + 1;
        if (cycle < count) {b, a} <= operands[cycle];
        if (cycle > latency && cycle <= count + latency) results[cycle - latency - 1] <= result;
        if (cycle > count + latency) begin
            $writememh(results_file, results, 0, count - 1);
            $finish;
        end
    end
endmodule
