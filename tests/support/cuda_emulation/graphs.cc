#include <algorithm>
#include <memory>
#include <utility>

#include "tests/support/cuda_emulation/queues.h"

namespace cuda_emulation {

struct Graph {
  std::vector<Node> nodes;
};
struct GraphExec {
  std::shared_ptr<const std::vector<Node>> nodes;
};

void Capture::join(Queue* stream, const std::vector<size_t>& nodes) {
  std::vector<size_t>& last = last_[stream];
  last.insert(last.end(), nodes.begin(), nodes.end());
}

void Capture::add(Queue* stream, Node node) {
  node.after = last_[stream];
  nodes_.push_back(std::move(node));
  last_[stream] = {nodes_.size() - 1};
}

std::vector<Queue*> Capture::streams() const {
  std::vector<Queue*> streams;
  for (const auto& [stream, last] : last_) streams.push_back(stream);
  return streams;
}

void Capture::visit(size_t node, std::vector<bool>& seen, std::vector<size_t>& order) const {
  if (seen[node]) return;
  seen[node] = true;
  for (const size_t before : nodes_[node].after) visit(before, seen, order);
  order.push_back(node);
}

std::vector<Node> Capture::end(bool* unjoined) {
  std::vector<bool> seen(nodes_.size());
  std::vector<size_t> order;
  for (const size_t last : last_[origin_]) visit(last, seen, order);
  *unjoined = order.size() < nodes_.size();
  std::vector<Node> nodes;
  for (const size_t node : order) nodes.push_back(nodes_[node]);
  return nodes;
}

namespace {

// Of the calling thread; null: none.
thread_local std::shared_ptr<Capture> capture_of_thread;

}  // namespace

cudaError_t refuse_while_capturing() {
  if (capture_of_thread == nullptr) return cudaSuccess;
  capture_of_thread->break_off();
  return cudaErrorStreamCaptureUnsupported;
}

cudaError_t refusal() {
  const cudaError_t refused = refuse_while_capturing();
  return refused != cudaSuccess ? refused : sticky_error();
}

}  // namespace cuda_emulation

using cuda_emulation::Capture;
using cuda_emulation::capture_of_thread;
using cuda_emulation::Graph;
using cuda_emulation::GraphExec;
using cuda_emulation::Node;
using cuda_emulation::Queue;

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream == nullptr || stream->capture != nullptr) return cudaErrorStreamCaptureUnsupported;
  if (capture_of_thread != nullptr) return cudaErrorStreamCaptureUnsupported;
  if (const cudaError_t error = cuda_emulation::sticky_error(); error != cudaSuccess) return error;
  capture_of_thread = std::make_shared<Capture>(stream);
  capture_of_thread->join(stream, {});
  stream->capture = capture_of_thread;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  const std::shared_ptr<Capture> capture = stream->capture;
  if (capture == nullptr) return cudaErrorInvalidValue;
  if (capture->origin() != stream) return cudaErrorStreamCaptureUnmatched;
  if (capture != capture_of_thread) return cudaErrorStreamCaptureWrongThread;
  capture_of_thread.reset();
  for (Queue* of_capture : capture->streams()) of_capture->capture.reset();
  bool unjoined = false;
  std::vector<Node> nodes = capture->end(&unjoined);
  if (const cudaError_t error = cuda_emulation::sticky_error(); error != cudaSuccess) return error;
  if (capture->broken()) return cudaErrorStreamCaptureInvalidated;
  if (unjoined) return cudaErrorStreamCaptureUnjoined;
  if (cuda_emulation::machine().capture_error != cudaSuccess) {
    return cuda_emulation::machine().capture_error;
  }
  *graph = std::make_unique<Graph>(Graph{std::move(nodes)}).release();
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = cudaStreamCaptureStatusNone;
  if (stream == nullptr || stream->capture == nullptr) return cudaSuccess;
  *status = stream->capture->broken() ? cudaStreamCaptureStatusInvalidated
                                      : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  if (nodes != nullptr) return cudaErrorInvalidValue;  // nodes have no handles here
  *count = graph->nodes.size();
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, uint64_t) {
  *exec = nullptr;
  if (const cudaError_t error = cuda_emulation::sticky_error(); error != cudaSuccess) return error;
  if (cuda_emulation::machine().instantiate_error != cudaSuccess) {
    return cuda_emulation::machine().instantiate_error;
  }
  auto nodes = std::make_shared<const std::vector<Node>>(graph->nodes);
  *exec = std::make_unique<GraphExec>(GraphExec{std::move(nodes)}).release();
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  const std::unique_ptr<Graph> owned(graph);
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  const std::unique_ptr<GraphExec> owned(exec);
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  const cudaError_t refused = cuda_emulation::refusal();
  if (refused != cudaSuccess) return refused;
  cuda_emulation::count_graph_launch();
  std::vector<uint64_t> records;
  for (const Node& node : *exec->nodes) {
    if (node.kernel) cuda_emulation::count_launch();
    records.push_back(node.event == nullptr ? 0 : node.event->recorded());
  }
  const std::shared_ptr<const std::vector<Node>> nodes = exec->nodes;
  return cuda_emulation::enqueue_mark(stream, [nodes, records] {
    for (size_t i = 0; i < nodes->size(); ++i) {
      const Node& node = (*nodes)[i];
      if (node.event != nullptr) node.event->wait_for(records[i]);
      if (node.work) node.work();
    }
  });
}
