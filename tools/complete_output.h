// What `engram complete` has received so far, and how it is printed.
#pragma once

#include <engram/v1/completions.pb.h>

#include <string>
#include <vector>

namespace engram::tools {

class CompleteOutput {
 public:
  // Adds a message's deltas. With `print_text`, text of a single choice goes to standard output as
  // it comes.
  void add(const v1::CompleteResponse& message, bool print_text);

  // The choices as text, when there are several; ends the line otherwise.
  void print_choices() const;
  // One JSON object per choice and line.
  void print_json() const;
  // Speed and n-gram traffic, to standard error.
  void print_stats(double client_seconds) const;

 private:
  std::vector<v1::Choice> choices_;
  v1::Usage usage_;
};

}  // namespace engram::tools
