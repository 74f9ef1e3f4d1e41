// A whole server in this process: model, store, actors, and the socket in front of them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "deploy/options.h"

namespace ringtide::deploy {

// What was loaded and what it may use, to be shown.
struct ServerFacts {
  std::string model, architecture, quantisation, fingerprint, path;
  int64_t weight_bytes = 0, trained_context = 0;
  int layers = 0;
  int threads = 0;
  int64_t ram_budget = 0;     // bytes of all that sessions hold in memory
  std::string gpu;            // its name; empty: the processor computes
  std::string gpu_note;       // why no GPU is used, where one was looked for
  int64_t gpu_budget = 0;     // bytes of it for keys and values
  int shards = 1;             // of the ring, this process among them
  std::string shard_address;  // where more can join; empty: there is no ring
  int64_t store_free_bytes = 0;
  std::string store, address;
};

class LocalServer {
 public:
  // Loads and opens. Throws Failure or ModelError that says which of them failed and why.
  LocalServer(const ServerOptions& options, const protocol::Policy& default_policy);
  // Closes connections, then lets what is acknowledged reach the disk.
  ~LocalServer();

  // Once. Throws Failure that names the address.
  void listen(const std::string& address);

  const ServerFacts& facts() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ringtide::deploy
