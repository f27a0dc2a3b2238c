// A machine and its main memory. cocotb drives the clock, the register bus and the jobs; no Python runs in between.
//
// The memory holds beats. A request is accepted every cycle and a read accepted in cycle t is answered in t + LATENCY. With `stalls` above
// zero, request and response each pause in a cycle with the probability stalls / 65536; responses stay in order. Requests are accepted in
// `pace_beats` of `pace_cycles` cycles, evenly spread, counted from the job's first request. Beats behind the image
// read as a fixed pattern; writing there, or to an unaligned address, is a fault that stops the job.

module bench #(
    parameter BEAT_BYTES = 16,
    parameter LATENCY = 32,
    parameter MEMORY_BEATS = 1 << 20,
    // Layout of the request and response payloads
    parameter WRITE_AT = 0,
    parameter TAG_AT = 1,
    parameter TAG_BITS = 2,
    parameter ADDRESS_AT = 0,
    parameter DATA_AT = 0,
    parameter REQUEST_BITS = 1,
    parameter RESPONSE_TAG_AT = 0,
    parameter RESPONSE_DATA_AT = 2,
    parameter RESPONSE_BITS = 1,
    parameter REGISTER_ADDRESS_BITS = 12
) (
    input clk
);
    localparam SHIFT = $clog2(BEAT_BYTES);
    localparam INDEX_BITS = $clog2(MEMORY_BEATS);
    localparam QUEUE = 2048;  // beats on their way, above the largest latency

    // The conductor's side, written and read by cocotb
    reg rst = 1;
    reg [REGISTER_ADDRESS_BITS-1:0] address = 0;
    reg write_enable = 0;
    reg [31:0] write_data = 0;
    wire [31:0] read_data;
    reg [31:0] job = 0;            // number of the job: names its files
    reg load = 0;                  // a rising edge reads the image
    reg store = 0;                 // a rising edge writes the result
    reg [31:0] image_beats = 0;    // beats of the image
    reg [31:0] result_first = 0;   // first and last beat of the result
    reg [31:0] result_last = 0;
    reg [31:0] stalls = 0;
    reg [31:0] seed = 1;
    reg [31:0] pace_beats = 1;
    reg [31:0] pace_cycles = 1;
    reg running = 0;               // watch for the end of a job
    reg [31:0] limit = 0;          // cycles after which a job is given up; 0: never
    reg finished = 0;
    reg expired = 0;
    reg fault = 0;
    reg [31:0] fault_address = 0;
    reg [31:0] watched = 0;

    wire done;
    wire request_valid, request_ready, response_valid;
    wire [REQUEST_BITS-1:0] request;
    wire [RESPONSE_BITS-1:0] response;

    flexwave machine (
        .clk(clk), .rst(rst),
        .registers__address(address), .registers__write_enable(write_enable),
        .registers__write_data(write_data), .registers__read_data(read_data),
        .memory__request__valid(request_valid), .memory__request__ready(request_ready), .memory__request__payload(request),
        .memory__response__valid(response_valid), .memory__response__payload(response),
        .done(done)
    );

    // Memory
    reg [8*BEAT_BYTES-1:0] memory [0:MEMORY_BEATS-1];
    wire [31:0] request_address = request[ADDRESS_AT +: 32];
    wire [31:0] beat = request_address >> SHIFT;
    wire [INDEX_BITS-1:0] index = beat[INDEX_BITS-1:0];
    wire in_image = beat < image_beats && (request_address & (BEAT_BYTES - 1)) == 0;

    // Reads on their way, in order
    reg [8*BEAT_BYTES+TAG_BITS-1:0] queue [0:QUEUE-1];
    reg [31:0] due [0:QUEUE-1];
    reg [10:0] head = 0, tail = 0;
    reg [31:0] now = 0;
    reg [31:0] random = 1;
    reg pause_request = 0, pause_response = 0;
    wire [10:0] waiting = tail - head;
    reg begun = 0;                 // since the job's first request
    reg [31:0] owed = 0;           // beats that could have been accepted, in units of 1 / pace_cycles
    wire open = owed + pace_beats >= pace_cycles;
    assign request_ready = !pause_request && open && waiting != 11'd2047;
    assign response_valid = waiting != 0 && $signed(now - due[head]) >= 0 && !pause_response;
    assign response[RESPONSE_TAG_AT +: TAG_BITS] = queue[head][8*BEAT_BYTES +: TAG_BITS];
    assign response[RESPONSE_DATA_AT +: 8*BEAT_BYTES] = queue[head][0 +: 8*BEAT_BYTES];

    function automatic [31:0] next_random(input [31:0] x);
        begin
            x = x ^ (x << 13);
            x = x ^ (x >> 17);
            next_random = x ^ (x << 5);
        end
    endfunction

    always @(posedge clk) begin
        now <= now + 1;
        if (request_valid && request_ready) begin
            if (request[WRITE_AT]) begin
                if (in_image) memory[index] <= request[DATA_AT +: 8*BEAT_BYTES];
                else if (!fault) begin
                    fault <= 1;
                    fault_address <= request_address;
                end
            end else begin
                queue[tail] <= {request[TAG_AT +: TAG_BITS], in_image ? memory[index] : {BEAT_BYTES{8'ha5}}};
                due[tail] <= now + LATENCY;
                tail <= tail + 1;
            end
        end
        if (response_valid) head <= head + 1;
        if (load) begin
            begun <= 0;
            owed <= 0;
        end else if (begun || request_valid) begin
            begun <= 1;
            owed <= open ? owed + pace_beats - pace_cycles : owed + pace_beats;
        end
        if (stalls != 0) begin
            random <= next_random(random);
            pause_request <= {16'b0, random[15:0]} < stalls;
            pause_response <= {16'b0, random[31:16]} < stalls;
        end
        if (rst) begin
            head <= tail;
            random <= seed;
            pause_request <= 0;
            pause_response <= 0;
        end

        // The end of a job
        if (running) begin
            watched <= watched + 1;
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
        $readmemh(name, memory, 0, image_beats - 1);
    end
    always @(posedge store) begin
        name = $sformatf("%0d.result", job);
        $writememh(name, memory, result_first, result_last);
    end
endmodule
