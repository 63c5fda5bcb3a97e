// The "model" of a tokenizer.json: vocabulary, merges and options of byte-level BPE.
#pragma once

#include "engine/model/json_cursor.h"
#include "engine/model/tokenizer_spec.h"

namespace engram::engine {

memory::Status read_bpe_spec(const JsonCursor& model, BpeSpec& bpe);

}  // namespace engram::engine
