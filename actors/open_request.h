// What an open asks for, checked and completed. Pure.
#pragma once

#include <string>

#include "actors/facts.h"
#include "model/policy_config.h"
#include "protocol/service.h"
#include "storage/records.h"

namespace ringtide::actors {

// Empty if the request can be tried; else what is wrong with it.
std::string invalid(const protocol::OpenRequest& request);

// The policy asked for, over the server's default, over the policy's own numbers. Throws
// ModelError.
model::PolicyConfig policy_of(const protocol::Policy& asked, const protocol::Policy& fallback);

// First record of a new session. Throws ModelError: policy or template cannot be.
storage::Opened compose_opened(const Facts& facts, const protocol::OpenRequest& request);

}  // namespace ringtide::actors
