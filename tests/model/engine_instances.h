// Suites whose tests are in engine_cases.cc; each engine's test program instantiates them.
#pragma once

#include "tests/model/engine_fixture.h"

namespace ringtide::testing {

struct AnyEngine : EngineTest, ::testing::WithParamInterface<EngineKind> {
  AnyEngine() : EngineTest(GetParam().shape, GetParam()) {}
};
struct AnyRestore : RestoreTest, ::testing::WithParamInterface<EngineKind> {
  AnyRestore() : RestoreTest(GetParam().shape, GetParam()) {}
};

}  // namespace ringtide::testing
