#include "model/chat_families.h"

#include <string>

namespace ringtide::model {
namespace {

// Facts from the families' model cards.

constexpr std::string_view kChatMl =
    R"({% for m in messages %}
{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}
{%- endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\n' }}
{%- endif %})";

constexpr std::string_view kLlama3 =
    R"({{ bos_token }}
{%- for m in messages %}
{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content + '<|eot_id|>' }}
{%- endfor %}
{% if add_generation_prompt %}
{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %})";

// Every exchange of its own begins with bos.
constexpr std::string_view kLlama2 =
    R"({% set ns = namespace(first='') %}
{% for m in messages %}
{% if m.role == 'system' %}
{% set ns.first = '<<SYS>>\n' + m.content + '\n<</SYS>>\n\n' %}
{% elif m.role == 'user' %}
{{ bos_token + '[INST] ' + ns.first + m.content + ' [/INST]' }}
{%- set ns.first = '' %}
{% else %}
{{ ' ' + m.content + ' ' + eos_token }}
{%- endif %}
{% endfor %})";

constexpr std::string_view kZephyr =
    R"({% for m in messages %}
{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}
{%- endfor %}
{% if add_generation_prompt %}
{{ '<|assistant|>\n' }}
{%- endif %})";

constexpr std::string_view kMistral =
    R"({% set ns = namespace(first='') %}
{{ bos_token }}
{%- for m in messages %}
{% if m.role == 'system' %}
{% set ns.first = m.content + '\n\n' %}
{% elif m.role == 'user' %}
{{ '[INST] ' + ns.first + m.content + ' [/INST]' }}
{%- set ns.first = '' %}
{% else %}
{{ m.content + eos_token }}
{%- endif %}
{% endfor %})";

constexpr std::string_view kMistralNemo =
    R"({% set ns = namespace(first='') %}
{{ bos_token }}
{%- for m in messages %}
{% if m.role == 'system' %}
{% set ns.first = m.content + '\n\n' %}
{% elif m.role == 'user' %}
{{ '[INST]' + ns.first + m.content + '[/INST]' }}
{%- set ns.first = '' %}
{% else %}
{{ m.content + eos_token }}
{%- endif %}
{% endfor %})";

constexpr std::string_view kGemma =
    R"({% set ns = namespace(first='') %}
{{ bos_token }}
{%- for m in messages %}
{% if m.role == 'system' %}
{% set ns.first = m.content + '\n\n' %}
{% else %}
{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else 'user') + '\n' }}
{{- ns.first + m.content + '<end_of_turn>\n' }}
{%- set ns.first = '' %}
{% endif %}
{% endfor %}
{% if add_generation_prompt %}
{{ '<start_of_turn>model\n' }}
{%- endif %})";

constexpr std::string_view kPhi3 =
    R"({% for m in messages %}
{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}
{%- endfor %}
{% if add_generation_prompt %}
{{ '<|assistant|>\n' }}
{%- endif %})";

}  // namespace

const std::vector<ChatFamily>& chat_families() {
  static const std::vector<ChatFamily> families = {
      {"chatml", kChatMl}, {"llama3", kLlama3},   {"llama2", kLlama2},
      {"zephyr", kZephyr}, {"mistral", kMistral}, {"mistral-nemo", kMistralNemo},
      {"gemma", kGemma},   {"phi3", kPhi3},
  };
  return families;
}

}  // namespace ringtide::model
