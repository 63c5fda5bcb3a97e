// What readers of result files share: numbers that may be missing, lists of them, settings of any
// shape as text. Errors name file, key, expected and found. Includes nlohmann-json: for .cc files
// only.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/model/json_cursor.h"
#include "memory/base/status.h"
#include "tools/bench/result_file.h"

namespace engram::tools::bench {

// A finite number; absent or null: none.
memory::Status read_number(const engine::JsonCursor& at, std::optional<double>* out);
// Absent or null leaves `out` as it is.
memory::Status read_text(const engine::JsonCursor& at, std::string* out);
memory::Status read_flag(const engine::JsonCursor& at, bool* out);
// A list of numbers; null in it is NaN. Absent or null: empty.
memory::Status read_numbers(const engine::JsonCursor& at, std::vector<double>* out);

// Calls `read` for each element of a list; absent or null: for none.
using ReadElement = std::function<memory::Status(const engine::JsonCursor&)>;
memory::Status read_list(const engine::JsonCursor& at, const ReadElement& read);
// Calls `read` for each member of an object, in the order of their names; absent or null: for none.
using ReadMember =
    std::function<memory::Status(const std::string& name, const engine::JsonCursor&)>;
memory::Status read_members(const engine::JsonCursor& at, const ReadMember& read);

// Every leaf below `value` as "name.member": text. A list is one leaf.
void add_settings(const std::string& name, const nlohmann::json& value, std::vector<Setting>* out);
// Every number below `value` as "name.member"; what is no number is left out.
void add_metrics(const std::string& name, const nlohmann::json& value, std::vector<Metric>* out);

}  // namespace engram::tools::bench
