// Whether Hopper's own instructions are used, which some kernels are written in: on a Hopper, by a
// build for it. A build for architecture 80-virtual runs the kernels of all others there, too.
#pragma once

namespace ringtide::kernels::cuda {

bool is_hopper();  // of the device in use

}  // namespace ringtide::kernels::cuda
