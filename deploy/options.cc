#include "deploy/options.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>

#include "deploy/device_name.h"
#include "deploy/model_cache.h"

namespace ringtide::deploy {

namespace {

// Digits and nothing else, as far as they go; none where there are none or too many of them.
std::optional<uint64_t> leading_number(const std::string& text, size_t& digits) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  digits = static_cast<size_t>(end - text.data());
  if (error != std::errc()) return std::nullopt;
  return value;
}

std::string to_bytes(std::string& text) {
  size_t digits = 0;
  const std::optional<uint64_t> number = leading_number(text, digits);
  std::string unit = text.substr(digits);
  std::transform(unit.begin(), unit.end(), unit.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  const size_t letter = unit.empty() ? std::string::npos : std::string("BKMGT").find(unit[0]);
  const bool known =
      unit.empty() ||
      (letter != std::string::npos &&
       (unit.size() == 1 || (letter > 0 && (unit.substr(1) == "B" || unit.substr(1) == "IB"))));
  if (!number || !known) return "'" + text + "' is no number of bytes: write 2000000, 512M or 4G";
  const int shift = unit.empty() ? 0 : static_cast<int>(letter) * 10;
  if (*number == 0) return "must be more than 0 bytes";
  if (*number > (uint64_t{1} << 62 >> shift)) return "'" + text + "' is too large";
  text = std::to_string(*number << shift);
  return "";
}

std::string check_unsigned(const std::string& text) {
  size_t digits = 0;
  if (leading_number(text, digits) && digits == text.size()) return "";
  return "'" + text + "' is no whole number from 0 to 18446744073709551615";
}

std::vector<CLI::App*> commands_of(CLI::App& app) {
  return app.get_subcommands([](CLI::App*) { return true; });
}

void forget_environment(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) option->envname("");
  for (CLI::App* command : commands_of(app)) forget_environment(*command);
}

}  // namespace

void read_own_environment(CLI::App& app) {
  const std::vector<CLI::App*> commands = commands_of(app);
  for (CLI::App* chosen : commands) {
    chosen->preparse_callback([commands, chosen](size_t) {
      for (CLI::App* each : commands) {
        if (each != chosen) forget_environment(*each);
      }
    });
  }
}

std::string environment_name(const std::string& flag) {
  std::string name = "RINGTIDE_" + flag.substr(flag.find_first_not_of('-'));
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) {
    return c == '-' ? '_' : static_cast<char>(std::toupper(c));
  });
  return name;
}

CLI::Option* add_switch(CLI::App* app, const std::string& flag, bool& value,
                        const std::string& help) {
  return app->add_flag(flag, value, help)->envname(environment_name(flag));
}

CLI::Option* add_unsigned(CLI::App* app, const std::string& flag, uint64_t& value,
                          const std::string& help) {
  return add_setting(app, flag, value, help)->check(CLI::Validator(check_unsigned, ""));
}

CLI::Option* add_bytes(CLI::App* app, const std::string& flag, int64_t& value,
                       const std::string& help) {
  return add_setting(app, flag, value, help)
      ->transform(CLI::Validator(to_bytes, ""))
      ->option_text("BYTES[K|M|G]");
}

void add_engine_options(CLI::App* app, ServerOptions& options) {
  add_setting(
      app, "--model", options.model,
      "GGUF model file or Hugging Face folder (default: the model that deploy/fetch-model put "
      "into the cache folder)")
      ->option_text("FILE")
      ->group("Engine");
  add_setting(app, "--threads", options.threads,
              "Threads that compute (default: one for each core this process may use)")
      ->check(CLI::Range(0, 1024))
      ->option_text("N")
      ->group("Engine");
  add_bytes(
      app, "--ram-budget", options.ram_budget,
      "Most memory for sessions: keys and values in windows, retrieved or on their way to the "
      "store, and the store's buffers; what does not fit is kept in the store. The process holds "
      "its weights and about 64 MiB beside it (default: half of the machine's memory)")
      ->group("Engine");
  add_device_options(app, options);
  add_setting(app, "--kv-type", options.kv_type,
              "How the processor keeps keys and values: f16 (default) or f32, twice the bytes")
      ->check(CLI::IsMember({"f16", "f32"}))
      ->option_text("TYPE")
      ->group("Engine");
  add_setting(app, "--activations", options.activations,
              "What quantised weights are multiplied by: int16 (default), f32 (slower) or int8 "
              "(faster, less exact); BF16 weights: by bf16, with f32 by that")
      ->check(CLI::IsMember({"f32", "int16", "int8"}))
      ->option_text("TYPE")
      ->group("Engine");
}

void add_device_options(CLI::App* app, ServerOptions& options) {
  add_setting(app, "--device", options.device,
              "What computes: 'auto' (default): a GPU where there is one that serves the model; "
              "'cpu'; 'cuda' or 'cuda:N': that GPU or an error; 'cuda:N,N,...': a GPU for each of "
              "--shards")
      ->check(CLI::Validator(wrong_device, ""))
      ->option_text("NAME")
      ->group("Engine");
  add_bytes(app, "--gpu-memory", options.gpu_memory,
            "Most memory of each GPU for weights and sessions (default: 90 % of what is free)")
      ->group("Engine");
}

void add_shards_option(CLI::App* app, ClusterOptions& options) {
  add_setting(
      app, "--shards", options.shards,
      "Shards of a ring that share each session's keys and values. Of processors: a process "
      "each, 'serve' is the first and starts the others, --threads and --ram-budget are "
      "each one's. Of GPUs, one each: all in this process, which --ram-budget is for "
      "(default 1: no ring)")
      ->check(CLI::Range(1, 64))
      ->option_text("N")
      ->group("Shards");
}

void add_cluster_options(CLI::App* app, ClusterOptions& options) {
  const char* group = "Shards";
  add_setting(app, "--shard-listen", options.shard_listen,
              "Where shards reach this process, host or host:port; an address that other machines "
              "reach needs certificates (default: 127.0.0.1, any free port)")
      ->option_text("ADDR")
      ->group(group);
  add_setting(app, "--unit-copies", options.unit_copies,
              "Shards that keep each unit in their stores (default: 2): a ring that loses one fewer "
              "at a time computes none again")
      ->check(CLI::Range(1, 64))
      ->option_text("N")
      ->group(group);
  const auto file = [&](const char* flag, std::string& value, const char* help) {
    add_setting(app, flag, value, help)->option_text("FILE")->group(group);
  };
  file("--cluster-certificate", options.security.certificate,
       "PEM; with key and authority, shards speak mutual TLS, and only they are let in whose "
       "certificate the authority signed");
  file("--cluster-key", options.security.key, "PEM; the certificate's private key");
  file("--cluster-authority", options.security.authority, "PEM; certificates that sign shards'");
}

void add_store_option(CLI::App* app, ServerOptions& options) {
  options.store = default_store_path();
  add_setting(app, "--store", options.store,
              "Folder of the database that holds the sessions; made if it is not there (default: " +
                  options.store + ")")
      ->option_text("DIR");
}

void add_connect_option(CLI::App* app, std::string& connect) {
  add_setting(app, "--connect", connect,
              "Address of a running 'ringtide serve', host:port or unix:/path (default: none; the "
              "command serves itself, over --store)")
      ->option_text("ADDR");
}

void add_policy_options(CLI::App* app, protocol::Policy& policy) {
  const char* group = "Attention policy of new sessions";
  add_setting(
      app, "--policy", policy.name,
      "What a token can see: 'infllm' (default): sinks, a window, and units retrieved from all "
      "that was before; 'streaming': sinks and a window only; 'exact': everything, at a cost "
      "that grows")
      ->check(CLI::IsMember({"exact", "streaming", "infllm"}))
      ->option_text("NAME")
      ->group(group);
  auto number = [&](const char* flag, int32_t& value, const char* help, int least) {
    add_setting(app, flag, value, help)
        ->check(CLI::Range(least, 1 << 30))
        ->option_text("N")
        ->group(group);
  };
  number("--window", policy.window, "Latest tokens that are always seen (default 4096)", 1);
  number("--sinks", policy.sinks, "First tokens that are always seen (default 128)", 0);
  number("--unit", policy.unit, "Tokens in a unit of memory (default 128)", 1);
  number("--block", policy.block, "Most tokens in one pass (default 512)", 1);
  number("--select", policy.select, "Units that a lookup brings back (default 16)", 1);
  number("--representatives", policy.representatives, "Keys that stand for a unit (default 4)", 1);
  number("--probe", policy.probe,
         "Groups of 64 units that a lookup compares one by one, out of all, which it compares as "
         "wholes (default 32)",
         1);
  add_setting(app, "--vote", policy.vote,
              "How heads agree on units: 'softmax' (default) of each head's inner products first, or "
              "their plain 'sum'")
      ->check(CLI::IsMember({"sum", "softmax"}))
      ->option_text("NAME")
      ->group(group);
}

void add_session_options(CLI::App* app, SessionOptions& options) {
  add_setting(
      app, "--template", options.template_family,
      "Chat template of a new session: 'auto' (the model's own), 'raw' (none), or of a family: "
      "chatml, llama3, llama2, zephyr, mistral, mistral-nemo, gemma, phi3")
      ->option_text("NAME");
  options.system_flag = add_setting(app, "--system", options.system,
                                    "System prompt of a new session (default: the model's own)")
                            ->option_text("TEXT");
  auto* only_new =
      add_switch(app, "--new", options.only_new, "Refuse to resume: the session must be new");
  add_switch(app, "--existing", options.only_existing, "Refuse to make: the session must exist")
      ->excludes(only_new);
  add_policy_options(app, options.policy);
}

void add_sampling_options(CLI::App* app, protocol::GenerateParams& params) {
  const char* group = "Sampling";
  add_setting(app, "--max-tokens", params.max_tokens,
              "Most tokens to generate (default " + std::to_string(params.max_tokens) + ")")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40))
      ->option_text("N")
      ->group(group);
  add_setting(app, "--temperature", params.temperature,
              "0 (default): always the likeliest token; higher: more variety")
      ->check(CLI::Range(0.0, 100.0))
      ->option_text("T")
      ->group(group);
  add_setting(app, "--top-k", params.top_k, "Only the K likeliest tokens (0, default: all)")
      ->check(CLI::Range(0, 1 << 30))
      ->option_text("K")
      ->group(group);
  add_setting(app, "--top-p", params.top_p,
              "Only the likeliest tokens that make up probability P (1, default: all)")
      ->check(CLI::Range(0.0, 1.0))
      ->option_text("P")
      ->group(group);
  add_setting(app, "--min-p", params.min_p,
              "Only tokens at least P times as likely as the likeliest (0, default: all)")
      ->check(CLI::Range(0.0, 1.0))
      ->option_text("P")
      ->group(group);
  add_setting(app, "--repetition-penalty", params.repetition_penalty,
              "Above 1: tokens seen lately become less likely (1, default: off)")
      ->check(CLI::Range(0.01, 100.0))
      ->option_text("R")
      ->group(group);
  add_setting(app, "--penalty-window", params.penalty_window,
              "Tokens that count as lately (default 256)")
      ->check(CLI::Range(0, 1 << 30))
      ->option_text("N")
      ->group(group);
  add_unsigned(app, "--seed", params.seed, "Same seed, same answer (default 0)")
      ->option_text("N")
      ->group(group);
  add_setting(app, "--stop", params.stop,
              "End the answer before this text; may be given several times")
      ->option_text("TEXT")
      ->allow_extra_args(false)
      ->group(group);
}

protocol::OpenRequest open_request(const SessionOptions& options) {
  protocol::OpenRequest request;
  request.name = options.name;
  request.must_create = options.only_new;
  request.must_exist = options.only_existing;
  request.policy = options.policy;
  request.template_family = options.template_family;
  if (options.system_flag != nullptr && options.system_flag->count() > 0) {
    request.system = options.system;
  }
  return request;
}

std::string not_applied(const SessionOptions& options, const protocol::SessionInfo& found) {
  std::string flags;
  const auto add = [&](const char* flag, bool differs) {
    if (differs) flags += (flags.empty() ? "" : ", ") + std::string(flag);
  };
  const protocol::Policy& p = options.policy;
  const std::string& family = options.template_family;
  add("--policy", !p.name.empty() && p.name != found.policy);
  add("--template", !family.empty() && family != "auto" && family != found.template_family);
  // The session does not tell these: whoever gives one should know that it was decided before.
  add("--window", p.window != 0);
  add("--sinks", p.sinks != -1);
  add("--unit", p.unit != 0);
  add("--block", p.block != 0);
  add("--select", p.select != 0);
  add("--representatives", p.representatives != 0);
  add("--probe", p.probe != 0);
  add("--vote", !p.vote.empty());
  add("--system", options.system_flag != nullptr && options.system_flag->count() > 0);
  if (flags.empty()) return "";
  return "session '" + found.name + "' keeps what it was made with (policy " + found.policy +
         ", template " + found.template_family + "): not applied: " + flags;
}

}  // namespace ringtide::deploy
