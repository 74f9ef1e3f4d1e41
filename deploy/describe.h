// Sessions and results as JSON (fields documented in JSON.md) and as text.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "deploy/local_server.h"
#include "protocol/service.h"

namespace ringtide::deploy {

using Json = nlohmann::ordered_json;

Json to_json(const protocol::SessionInfo& info);
Json to_json(const protocol::GenerateResult& result);
Json to_json(const ServerFacts& facts);
std::string to_string(protocol::FinishReason reason);  // "end_of_turn", "max_tokens", ...
std::string show_time(int64_t unix_ms);                // local time, to the second

// One object, one line. Bytes that are not UTF-8 become U+FFFD.
std::string to_line(const Json& object);
// On stdout at once; throws Failure where that cannot be written to.
void print_line(const Json& object);

}  // namespace ringtide::deploy
