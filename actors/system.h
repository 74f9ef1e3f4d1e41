// The whole service in one process: actors wired together behind protocol's Service.
//
// The only door into this room for mains and end-to-end tests.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "protocol/service.h"

namespace ringtide::model {
class Engine;
class Model;
struct PolicyConfig;
class UnitStore;
}  // namespace ringtide::model
namespace ringtide::storage {
class Store;
}

namespace ringtide::actors {

struct SystemOptions {
  std::shared_ptr<const model::Model> model;  // tokenizer, template, names; weights for the engine
  std::unique_ptr<storage::Store> store;
  // Makes the engine on its worker's thread; called again if the worker has died.
  std::function<std::unique_ptr<model::Engine>(model::UnitStore&)> make_engine;
  // Who of a ring's shards holds what of a session, as AskShards of facts.h; empty: no ring.
  std::function<void(const protocol::SessionInfo&,
                     std::function<void(std::vector<protocol::ShardInfo>)>)>
      shards;
  // Why new sessions of a policy are refused, as PolicyRefusal of facts.h; empty: none are.
  std::function<std::string(const model::PolicyConfig&)> refusal;
  std::string version, store_path;
  protocol::Policy default_policy;      // what an open that names none gets
  int threads = 1;                      // of the engine, to report
  int blocks = 1;                       // of one session that run in one plan
  int rows = 16;                        // sessions that decode together
  int max_sessions = 256;               // open at once
  int64_t max_queued_bytes = 8 << 20;   // appended text a session holds before it pushes back
  int64_t unwritten_bytes = 256 << 20;  // units on their way to the store
};

class System {
 public:
  explicit System(SystemOptions options);
  ~System();  // stops if stop() was not called
  // Valid until stop(). Any thread.
  protocol::Service& service();
  // Refuses new work, lets what is acknowledged reach the disk, ends the actors. Blocks.
  void stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ringtide::actors
