// ringtide doctor: what the machine has, what will be used, what is wrong.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <fstream>
#include <memory>

#include "deploy/commands.h"
#include "deploy/describe.h"
#include "deploy/device.h"
#include "deploy/engine_options.h"
#include "deploy/failure.h"
#include "deploy/format.h"
#include "deploy/machine.h"
#include "deploy/model_cache.h"
#include "deploy/output.h"
#include "deploy/shards.h"
#include "model/model.h"
#include "protocol/address.h"

namespace ringtide::deploy {

namespace {

struct DoctorOptions {
  std::string model, listen = "127.0.0.1:7717";
  ServerOptions server;
  bool json = false;
};

struct Finding {
  std::string what, found;
  bool ok = true;
  Json details;
};

Finding look_at_processor(const Machine& m) {
  const bool fast = std::find(m.simd.begin(), m.simd.end(), "avx2") != m.simd.end();
  return {"processor",
          fmt::format("{}, {} core(s) usable, {}", m.cpu.empty() ? "unknown" : m.cpu, m.cores,
                      m.simd.empty() ? "no AVX2: slow, but right"
                                     : fmt::format("{}", fmt::join(m.simd, " "))),
          true,
          {{"cpu", m.cpu}, {"cores", m.cores}, {"simd", m.simd}, {"fast", fast}}};
}

Finding look_at_memory(const Machine& m) {
  constexpr int64_t kLeast = int64_t{1} << 30;
  return {"memory",
          fmt::format("{}, {} available; sessions may use {} (--ram-budget)", show_bytes(m.ram),
                      show_bytes(m.ram_available), show_bytes(m.ram / 2)),
          m.ram_available >= kLeast,
          {{"ram", m.ram}, {"available", m.ram_available}, {"default_budget", m.ram / 2}}};
}

Finding look_at_gpu(const Machine& m, const std::string& wanted) {
  Device device;
  std::string wrong;
  try {
    device = find_device(wanted);
  } catch (const Failure& e) {
    wrong = e.what();
  }
  const bool idle = m.nvidia_device && !device.on_gpu() && wanted == "auto";
  std::string found = wrong;
  if (device.on_gpu()) {
    found = fmt::format("{}; weights and sessions may use {} (--gpu-memory)", show(device.info),
                        show_bytes(device.info.free_bytes / 10 * 9));
  } else if (wrong.empty()) {
    found = fmt::format("{}the processor computes", device.note.empty() ? "" : device.note + "; ");
  }
  return {"GPU",
          found,
          wrong.empty() && !idle,
          {{"found", m.nvidia_device},
           {"used", device.on_gpu()},
           {"name", device.info.name},
           {"memory", device.info.total_bytes},
           {"free", device.info.free_bytes},
           {"reason", wrong.empty() ? device.note : wrong}}};
}

Finding look_at_store(const std::string& path) {
  constexpr int64_t kLeast = int64_t{1} << 30;
  const Disk disk = inspect_disk(path);
  std::string found = fmt::format("{} ({}), {} free", path, disk.exists ? "there" : "will be made",
                                  show_bytes(disk.free_bytes));
  if (!disk.writable) found += "; cannot be written: choose another with --store";
  if (disk.free_bytes < kLeast) found += "; little room: a long session fills gigabytes";
  return {"store",
          found,
          disk.writable && disk.free_bytes >= kLeast,
          {{"path", path},
           {"exists", disk.exists},
           {"writable", disk.writable},
           {"free", disk.free_bytes}}};
}

Finding look_at_model(const std::string& given) {
  Finding finding{"model", "", false, {{"path", given.empty() ? default_model_path() : given}}};
  try {
    const std::string path = find_model(given);
    finding.found =
        fmt::format("{}, {}", path, show_bytes(model::Model::load(path)->tensors.bytes));
    finding.ok = true;
    if (given.empty()) {
      finding.ok = sha256_of(path) == kDefaultModelSha256;
      finding.found += finding.ok ? ", checksum right"
                                  : ", checksum wrong: remove it and run deploy/fetch-model";
    }
  } catch (const std::exception& e) {
    finding.found = e.what();
  }
  return finding;
}

Finding look_at_address(const std::string& address) {
  const std::string why = protocol::cannot_listen(address);
  return {"address",
          why.empty() ? address + " is free" : why,
          why.empty(),
          {{"address", address}, {"free", why.empty()}}};
}

// What the shards of a ring would use, and whether others could join it.
Finding look_at_ring(const ServerOptions& server, const Machine& machine) {
  const int shards = server.cluster.shards;
  ServerOptions ring = server;
  ring.cluster.shards = std::max(2, shards);
  const model::EngineOptions each = engine_options(ring, machine);
  const bool tls = server.cluster.security.on();
  Finding finding{"ring",
                  fmt::format("{} --shards {} each would compute on {} thread(s) of the processor, "
                              "with {}",
                              shards > 1 ? "with" : "none; with", ring.cluster.shards, each.threads,
                              show_bytes(each.ram_budget)),
                  true,
                  {{"shards", shards},
                   {"threads", each.threads},
                   {"ram_budget", each.ram_budget},
                   {"unit_copies", each.unit_copies},
                   {"tls", tls}}};
  try {
    const actors::cluster::Address at = shard_address(server.cluster);
    const std::string address = actors::cluster::to_string(at);
    finding.details["listen"] = address;
    std::string reason = protocol::cannot_listen(address);
    finding.ok = reason.empty();
    for (const std::string& file :
         {server.cluster.security.certificate, server.cluster.security.key,
          server.cluster.security.authority}) {
      if (!tls || std::ifstream(file).good()) continue;
      finding.ok = false;
      reason = "cannot read " + file;
    }
    finding.found += finding.ok ? fmt::format("; others join at {}, {}", at.host,
                                              tls ? "by mutual TLS" : "this machine's only")
                                : fmt::format("; {}", reason);
  } catch (const Failure& failure) {
    finding.ok = false;
    finding.found += fmt::format("; {}", failure.what());
  }
  return finding;
}

void doctor(const DoctorOptions& options) {
  const Machine machine = inspect_machine();
  const Finding findings[] = {look_at_processor(machine),
                              look_at_memory(machine),
                              look_at_gpu(machine, options.server.device),
                              look_at_ring(options.server, machine),
                              look_at_store(options.server.store),
                              look_at_model(options.model),
                              look_at_address(options.listen)};
  std::vector<std::vector<std::string>> rows;
  int wrong = 0;
  for (const Finding& f : findings) {
    wrong += f.ok ? 0 : 1;
    if (options.json) {
      print_line({{"check", f.what}, {"ok", f.ok}, {"found", f.found}, {"details", f.details}});
    }
    rows.push_back({f.ok ? "ok" : "WRONG", f.what, f.found});
  }
  if (!options.json) print(show_table(rows));
  if (wrong > 0) throw Failure(Exit::Failed, fmt::format("{} of the checks above failed", wrong));
}

}  // namespace

void add_doctor(CLI::App& app, Command& chosen) {
  auto options = std::make_shared<DoctorOptions>();
  CLI::App* command =
      app.add_subcommand("doctor", "Look at the machine: what there is, what will be used");
  command->fallthrough();
  command->footer("Exit code 1 where a check fails.\n\n" + command->get_footer());
  add_setting(command, "--model", options->model,
              "Model file or folder to look at (default: the cached one)")
      ->option_text("FILE");
  add_store_option(command, options->server);
  add_device_options(command, options->server);
  add_shards_option(command, options->server.cluster);
  add_cluster_options(command, options->server.cluster);
  add_setting(command, "--listen", options->listen,
              "Address that should be free (default 127.0.0.1:7717)")
      ->option_text("ADDR");
  add_switch(command, "--json", options->json, "Print one JSON object a check");
  command->callback([options, &chosen] {
    chosen = {[options] { doctor(*options); }, options->json};
  });
}

}  // namespace ringtide::deploy
