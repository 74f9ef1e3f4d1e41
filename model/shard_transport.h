// How the engines of one ring exchange what a pass needs of each other; the interface is
// kernels/ring/transport.h's, under a name for rooms that do not include kernels.
#pragma once

#include "kernels/ring/transport.h"

namespace ringtide::model {

using ShardTransport = kernels::ring::Transport;
using ShardStep = kernels::ring::Step;
using kernels::ring::RingError;

}  // namespace ringtide::model
