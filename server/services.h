// The gRPC services, one file each. All use the callback API; their methods may be called by
// several of gRPC's threads at once and return at once.
#pragma once

#include <memory>
#include <string>

namespace grpc {
class Service;
}

namespace engram::server {

struct Front;

std::unique_ptr<grpc::Service> make_completions_service(Front& front);
std::unique_ptr<grpc::Service> make_models_service(Front& front);
std::unique_ptr<grpc::Service> make_tokenizer_service(Front& front);
std::unique_ptr<grpc::Service> make_admin_service(Front& front);

inline constexpr const char* kServiceNames[] = {
    "engram.v1.Completions", "engram.v1.Models", "engram.v1.Tokenizer", "engram.v1.Admin"};

}  // namespace engram::server
