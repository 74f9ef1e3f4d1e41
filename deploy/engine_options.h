// What an engine's flags come to on this machine.
#pragma once

#include "deploy/machine.h"
#include "deploy/options.h"
#include "model/engine.h"

namespace ringtide::deploy {

model::EngineOptions engine_options(const ServerOptions& options, const Machine& machine);

}  // namespace ringtide::deploy
