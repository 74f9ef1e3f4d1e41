// Between the structs of service.h and the messages of ringtide.capnp. Inside this room only.
//
// read() never throws on what a client may send: an unknown enumerator becomes the neutral value.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "protocol/ringtide.capnp.h"
#include "protocol/service.h"

namespace ringtide::protocol {

using Tokens = std::vector<std::pair<int32_t, std::string>>;

std::string to_string(capnp::Text::Reader text);
std::string to_string(capnp::Data::Reader bytes);
capnp::Data::Reader to_data(std::string_view bytes);

void write(const Outcome& outcome, wire::Error::Builder to);
Outcome read(wire::Error::Reader from);

void write(const OpenRequest& request, wire::OpenRequest::Builder to);
OpenRequest read(wire::OpenRequest::Reader from);

void write(const SessionInfo& info, wire::SessionInfo::Builder to);
SessionInfo read(wire::SessionInfo::Reader from);

void write(const std::vector<SessionInfo>& infos, wire::ListResult::Builder to);
std::vector<SessionInfo> read(capnp::List<wire::SessionInfo>::Reader from);

// Invalid where a text is too long to be tokenized at once.
Outcome tokenizable(size_t bytes);
void write(const Tokens& tokens, wire::TokenizeResult::Builder to);
Tokens read(capnp::List<wire::TokenizeResult::Token>::Reader from);

void write(const ServerInfo& info, wire::ServerInfo::Builder to);
ServerInfo read(wire::ServerInfo::Reader from);

void write(const GenerateParams& params, wire::GenerateParams::Builder to);
GenerateParams read(wire::GenerateParams::Reader from);

void write(const TextChunk& chunk, wire::TextSink::ChunkParams::Builder to);
TextChunk read(wire::TextSink::ChunkParams::Reader from);

void write(const GenerateResult& result, wire::GenerateResult::Builder to);
GenerateResult read(wire::GenerateResult::Reader from);

}  // namespace ringtide::protocol
