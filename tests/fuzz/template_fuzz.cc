// Any bytes as a chat template: refused, or one whose turns can be written.
#include <cstdint>
#include <string_view>

#include "model/chat_template.h"
#include "tests/model/text_fixture.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using ringtide::model::ChatTemplate;
  static const auto tokenizer = [] {
    ringtide::model::SmallVocabulary vocabulary({}, {"<s>", "</s>", "<|im_start|>", "<|im_end|>"});
    vocabulary.tables.bos = 256;
    vocabulary.tables.eos = 257;
    return vocabulary.make();
  }();
  if (size == 0) return 0;
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  try {
    const auto chat = ChatTemplate::make("model", source, tokenizer, 0);
    chat->begin("");
    chat->begin("A system prompt.");
  } catch (const ringtide::model::ModelError&) {
  }
  return 0;
}
