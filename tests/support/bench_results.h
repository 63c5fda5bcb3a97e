// Results as load runs and experiments save them, small, for tests of what reads them.
#pragma once

#include <string>

namespace engram::tests {

// Three requests, the last of which failed; 4 requests/s.
inline std::string serve_result_json() {
  return R"x({"x_kind":"serve","x_schema":1,"date":"20261122-131500","backend":"engram",
"model_id":"demo","label":"host tables","num_prompts":3,"request_rate":4.0,"burstiness":1.0,
"max_concurrency":8,"duration":1.5,"completed":2,"failed":1,"total_input_tokens":30,
"total_output_tokens":6,"request_throughput":1.3333333333333333,"request_goodput":null,
"output_throughput":4.0,"total_token_throughput":24.0,"median_ttft_ms":15.25,"p99_ttft_ms":19.9,
"median_tpot_ms":5.0,"p99_tpot_ms":6.0,"x_client_bottleneck":false,"x_client":{"cpu_s":0.25},
"input_lens":[10,20,5],"output_lens":[3,3,0],"ttfts":[0.01,0.0205,0.0],
"itls":[[0.004,0.006],[0.005,0.007],[]],"latencies":[0.02,0.0325,0.5],
"start_times":[100.0,100.25,100.5],"errors":["","","UNAVAILABLE: gone"]})x";
}

// As `vllm bench serve --save-result` writes it: no x_ keys, no lists.
inline std::string vllm_result_json() {
  return R"x({"date":"20261122-131500","backend":"vllm","model_id":"m","tokenizer_id":"m",
"num_prompts":2,"request_rate":"inf","burstiness":1.0,"max_concurrency":null,"duration":2.0,
"completed":2,"failed":0,"total_input_tokens":30,"total_output_tokens":6,
"request_throughput":1.0,"request_goodput:":null,"output_throughput":3.0,
"total_token_throughput":18.0,"mean_ttft_ms":12.0,"median_ttft_ms":12.0,"std_ttft_ms":NaN,
"p99_ttft_ms":13.0})x";
}

// One point of two batch sizes each with arms N and D; `quiet` is that of the second one.
inline std::string overhead_point_json(int batch, bool quiet, double cost_percent) {
  const std::string b = std::to_string(batch);
  const std::string cost = std::to_string(cost_percent);
  return R"x({"workload":"w3","metric":"output_throughput","batch":)x" + b +
         R"x(,"input_tokens":512,"output_tokens":[16,32],"request_rate":null,
"table_parameters":1000000000,"table_bytes":1000000000,"contention":false,"arms":{
"N":{"name":"no Engram","output_throughput":{"median":100.5,"samples":[100,101,100.5,99,102]},
"exposed_wait_us":{"p50":null,"p99":null,"max":null,"histogram":[]},"rows":null,"token_hash":"01"},
"D":{"name":"host, prefetch","output_throughput":{"median":99.5,"samples":[99,100,99.5,98,101]},
"exposed_wait_us":{"p50":1.5,"p99":7.5,"max":9.5,"histogram":[[1,10],[2,60],[4,20],[8,10]]},
"rows":1200,"gather_gbps":3.25,"token_hash":"02"}},
"comparisons":[{"arm":"D","baseline":"N","metric":"output_throughput","overhead_percent":
{"value":)x" +
         cost + R"x(,"low":0.5,"high":1.75},"text":"+1.00 % (+0.50 to +1.75)"
}],
"split_percent":{"exposed_wait":0.25,"interference":-0.125,"launches":null,
"projections_and_gate":0.875},"quiet":{"spread_percent":12.5,"limit_percent":10,"quiet":)x" +
         (quiet ? "true" : "false") + "}}";
}

inline std::string overhead_result_json(const std::string& kind = "overhead") {
  return R"x({"x_kind":")x" + kind +
         R"x(","x_schema":1,"engram_version":"0.1.0","date":"2026-11-22",
"command":"engram bench overhead","label":"demo","machine":{"cpu":"some","cores":2,"link":null},
"model":{"name":"demo","engram_layers":[1,3]},"settings":{"rounds":5,"seed":7},
"peaks":{"read_gbps":11.5,"link_gbps":null},"scaled_down":null,"points":[)x" +
         overhead_point_json(1, true, 1.0) + "," + overhead_point_json(4, false, 0.75) +
         R"x(],"flatness":[],"interrupted":false})x";
}

}  // namespace engram::tests
