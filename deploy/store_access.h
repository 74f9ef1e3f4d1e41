// The database of a store folder, opened by a command itself.
#pragma once

#include <memory>
#include <string>

#include "storage/store.h"

namespace ringtide::deploy {

// Throws Failure (Store, or NotFound where there is none) that says what to do.
std::unique_ptr<storage::Store> open_store(const std::string& path,
                                           const storage::StoreOptions& options);

// Throws Failure unless the status is good.
void require_ok(const storage::Status& status);

}  // namespace ringtide::deploy
