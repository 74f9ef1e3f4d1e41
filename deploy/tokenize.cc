// ringtide tokenize: the tokens of a text.
#include <fmt/core.h>

#include <memory>

#include "deploy/commands.h"
#include "deploy/connection.h"
#include "deploy/conversation.h"
#include "deploy/describe.h"
#include "deploy/model_cache.h"
#include "deploy/output.h"
#include "model/model.h"
#include "model/tokenizer.h"

namespace ringtide::deploy {

namespace {

struct TokenizeOptions {
  std::string text = "-", model, connect;
  bool json = false;
};

using Tokens = std::vector<std::pair<int32_t, std::string>>;

Tokens tokenize_here(const std::string& model, const std::string& text) {
  const auto tokenizer = model::load_tokenizer(find_model(model));
  Tokens tokens;
  for (model::TokenId id : tokenizer->encode(text)) {
    tokens.emplace_back(id, std::string(tokenizer->bytes(id)));
  }
  return tokens;
}

// Bytes as a person can read them on one line: those that are no text of their own as numbers.
std::string show_piece(const std::string& bytes) {
  try {
    return Json(bytes).dump();
  } catch (const Json::type_error&) {
    std::string escaped = "\"";
    for (const unsigned char byte : bytes) escaped += fmt::format("\\x{:02x}", byte);
    return escaped + "\"";
  }
}

void tokenize(const TokenizeOptions& options) {
  std::string text = options.text;
  if (text == "-") {
    text.clear();
    TextSource source({"-"}, "");
    for (std::string piece; !(piece = source.next()).empty();) text += piece;
  }
  Tokens tokens;
  if (options.connect.empty()) {
    tokens = tokenize_here(options.model, text);
  } else {
    Progress none(false);
    TargetOptions target;
    target.connect = options.connect;
    target.server.model = options.model;
    tokens = connect(target, none).client->tokenize(text);
  }
  for (const auto& [id, bytes] : tokens) {
    if (options.json) {
      print_line({{"id", id}, {"text", bytes}, {"bytes", bytes.size()}});
    } else {
      print(fmt::format("{:>8}  {}\n", id, show_piece(bytes)));
    }
  }
}

}  // namespace

void add_tokenize(CLI::App& app, Command& chosen) {
  auto options = std::make_shared<TokenizeOptions>();
  CLI::App* command = app.add_subcommand(
      "tokenize", "Show the tokens of a text, one a line; with --connect of at most 64 KiB");
  command->fallthrough();
  command->add_option("TEXT", options->text, "The text; '-' or none: standard input");
  add_setting(
      command, "--model", options->model,
      "GGUF file or Hugging Face folder whose tokenizer is used (default: the cached model)")
      ->option_text("FILE");
  add_connect_option(command, options->connect);
  add_switch(command, "--json", options->json, "Print one JSON object a line");
  command->callback([options, &chosen] {
    chosen = {[options] { tokenize(*options); }, options->json};
  });
}

}  // namespace ringtide::deploy
