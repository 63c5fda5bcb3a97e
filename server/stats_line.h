// What the log says about the engine: its shape once, its numbers every 10 s while it works.
#pragma once

#include "engine/run/engine.h"

namespace engram::server {

void log_engine(const engine::EngineInfo& info, double load_seconds);

// One thread.
class StatsLine {
 public:
  // Writes a line when 10 s have passed and something ran since the last one.
  void observe(const engine::EngineStats& stats);

 private:
  engine::Clock::time_point last_time_ = engine::Clock::now();
  engine::EngineStats last_;
};

}  // namespace engram::server
