// The "model" of a tokenizer.json: vocabulary, merges and options of byte-level BPE.
#pragma once

#include "engine/model/json_reader.h"
#include "engine/model/tokenizer_spec.h"

namespace engram::engine {

memory::Status read_bpe_spec(const JsonField& model, BpeSpec& bpe);

}  // namespace engram::engine
