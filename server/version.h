// The version of both programs; ENGRAM_VERSION comes from CMakeLists.txt.
#pragma once

namespace engram::server {

inline constexpr const char* kVersion = ENGRAM_VERSION;

}  // namespace engram::server
